"""Stages that learn their own rounding, and files of sixteen bits, as stages of a recipe."""

import pytest
from compress_samples import HEAL, squeezed
from recipe_samples import quiet_run

from tutelage.core.errors import RecipeError
from tutelage.evaluation.costs.latency import Effort
from tutelage.recipe.compressing import measuring

pytest.importorskip("tutelage.compression.qat")
LEARNED = {"qat": {"heal": HEAL}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(measuring, "EFFORT", Effort(warmup=1, calls=20))


def test_a_student_learns_its_rounding_and_its_file_answers_as_it_does(archive, tmp_path):
    recipe = squeezed(archive, ways={"learned": [LEARNED], "half": ["half"]})
    recipe["student"] = {"model": {"vgg": {"widths": [8, 16], "per_stage": 1}}}
    found = quiet_run(recipe, tmp_path / "out").report["compression"]
    assert found["failed"] == {}
    student, learned, half = found["points"]
    stage = learned["stages"][0]
    assert stage["stage"] == "int8_learned"
    assert stage["equal_top1"] > 0.95
    assert stage["healed"]["steps"] > 0
    assert abs(learned["accuracy"]["mean"] - stage["healed"]["validation_after"]) < 0.05
    assert learned["bytes"] < student["bytes"]
    assert half["bytes"] < student["bytes"]
    assert abs(half["accuracy_drop"]["mean"]) < 0.05


def test_what_is_learned_says_how_and_comes_last(archive, tmp_path):
    with pytest.raises(RecipeError, match="write heal"):
        quiet_run(squeezed(archive, ways={"a": ["qat"]}), tmp_path / "out")
    with pytest.raises(RecipeError, match="put it last"):
        quiet_run(squeezed(archive, ways={"a": [LEARNED, "int8"]}), tmp_path / "out")
