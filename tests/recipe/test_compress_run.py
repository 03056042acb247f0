"""Recipes that compress, carried out: what is made, what is shipped, what is said of it."""

import json
from functools import partial

import onnx
import pytest
from compress_samples import INT8, NARROW, squeezed
from recipe_samples import quiet_run, write

from tutelage.evaluation.costs import latency
from tutelage.evaluation.costs.latency import Effort
from tutelage.evaluation.faces.blocks import Picture
from tutelage.evaluation.faces.compression import compression
from tutelage.evaluation.faces.markdown import markdown
from tutelage.evaluation.schema import validate_report
from tutelage.recipe import reporting, students
from tutelage.recipe.compressing import measuring
from typed import typed


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(measuring, "EFFORT", Effort(warmup=1, calls=20))
    few = partial(latency.onnx_latency, effort=Effort(warmup=1, calls=10))
    monkeypatch.setattr(reporting, "onnx_latency", few)


@pytest.fixture(scope="module")
def finished(archive, tmp_path_factory):
    """The folder of a run that was never stopped."""
    place = tmp_path_factory.mktemp("squeezed")
    patch = pytest.MonkeyPatch()
    patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
    patch.setattr(measuring, "EFFORT", Effort(warmup=1, calls=20))
    result = quiet_run(squeezed(archive), place / "out")
    patch.undo()
    assert result.passed
    return place / "out"


@pytest.fixture(scope="module")
def report(finished):
    return json.loads((finished / "report.json").read_text())


@pytest.fixture
def points(report):
    return {point["name"]: point for point in report["compression"]["points"]}


def test_every_step_of_every_way_is_a_file_and_a_point(finished, points):
    files = {path.name for path in (finished / "compressed").iterdir()}
    assert files == {"int8.onnx", "narrow.onnx", "narrow_float.onnx", "raw.onnx"}
    assert list(points) == ["student", "int8", "narrow_float", "narrow", "raw"]
    for point in points.values():
        assert (finished / point["file"]).stat().st_size == point["bytes"]
        assert point["latency_ms"]["batch"] == point["latency_ms"]["threads"] == 1


def test_a_pruned_student_has_smaller_tensors_and_healing_gives_accuracy_back(finished, points):
    healed, raw, before = points["narrow_float"], points["raw"], points["student"]
    assert healed["bytes"] == pytest.approx(raw["bytes"], rel=0.02)
    assert healed["parameters"] < before["parameters"] / 2
    assert healed["accuracy"]["mean"] > raw["accuracy"]["mean"] + 0.05
    shapes = [list(t.dims) for t in onnx.load(finished / healed["file"]).graph.initializer]
    assert [8, 8] in shapes
    assert [32, 32] not in shapes
    curve = [row["kd"] for row in healed["stages"][0]["healed"]["curve"] if "kd" in row]
    assert curve[-1] < curve[0]


def test_what_two_ways_share_is_taught_once(finished, points):
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    arms = {line["arm"] for line in lines}
    assert arms == {"teacher", "student-0", "compress/narrow_float"}
    assert points["narrow"]["stages"][0] == points["narrow_float"]["stages"][0]
    assert [stage["stage"] for stage in points["narrow"]["stages"]] == ["prune", "int8_static"]


def test_the_best_within_the_budget_is_shipped_whole_and_asked_the_test_set(finished, report):
    found = report["compression"]
    shipped = (finished / "shipped.onnx").read_bytes()
    assert shipped == (finished / found["file"]).read_bytes()
    best = max(found["points"], key=lambda p: (p["accuracy"]["mean"], -p["bytes"]))
    assert found["prefer"] == "accuracy"
    assert found["chosen"] == best["name"]
    assert found["test"]["examples"] == 100
    against = found["test"]["against"]
    assert set(against) == {"student", "teacher"}
    flips = against["student"]
    change = flips["positive_flip_rate"] - flips["negative_flip_rate"]
    assert flips["accuracy_change"]["mean"] == pytest.approx(change)
    (gate,) = report["gates"]
    assert (gate["name"], gate["passed"]) == ("budget", True)
    assert "The shipped file was chosen on 100 validation examples" in report["verdict"]["ship"][1]


def test_the_report_holds_the_schema_and_shows_the_front(report):
    validate_report(report)
    text = markdown(report)
    assert "### Smaller files of the student" in text
    assert "| 4. narrow | prune (share 0.75) and healed, int8_static (examples 64) |" in text
    blocks = compression(report["compression"])
    bytes_, p99 = (block.svg for block in blocks if isinstance(block, Picture))
    assert "Accuracy of each file over its bytes." in bytes_
    assert "Accuracy of each file over its p99." in p99
    assert any(note.startswith("shipped.onnx is the file ") for note in report["notes"])


def test_a_finished_sweep_is_not_measured_again(archive, finished, report, monkeypatch):
    kept = (finished / "report.json").read_bytes()
    monkeypatch.setenv("TUTELAGE_CACHE", str(finished.parent / "cache"))
    monkeypatch.setattr(measuring, "onnx_latency", lambda *a, **k: pytest.fail("measured again"))
    before = (finished / "shipped.onnx").stat().st_mtime_ns
    result = quiet_run(squeezed(archive), finished, resume=True)
    assert result.report == report
    assert (finished / "report.json").read_bytes() == kept
    assert (finished / "shipped.onnx").stat().st_mtime_ns == before


def test_where_nothing_is_within_the_budget_the_gate_fails_and_nothing_is_shipped(
    archive, tmp_path, monkeypatch
):
    # At this energy nothing becomes smaller: known only once there are weights.
    ways = {"odd": [{"low_rank": {"energy": 1.0}}, "int8"], "int8": [INT8]}
    recipe = squeezed(archive, ways=ways, budget={"bytes": 1000})
    out = tmp_path / "out"
    code, said, err = typed(monkeypatch, "run", write(tmp_path / "r.yaml", recipe), "--out", out)
    assert code == 1
    assert err.count("\n") == 1
    assert "budget is " in err
    assert "none of 2 files is within the budget (at most 1,000 bytes)" in err
    assert "the nearest is int8 with" in err
    assert "nothing was chosen" in " ".join(said.split())
    assert not (out / "shipped.onnx").exists()
    report = json.loads((out / "report.json").read_text())
    validate_report(report)
    found = report["compression"]
    assert (found["chosen"], found["test"]) == (None, None)
    assert set(found["failed"]) == {"odd-low_rank", "odd"}  # the other way went on
    assert "becomes smaller at energy 1" in found["failed"]["odd-low_rank"]


def test_healing_listens_to_kept_answers_and_a_temperature_ships_with_each_file(archive, tmp_path):
    recipe = {**squeezed(archive, ways={"narrow": [NARROW]}), "calibrate": True}
    recipe["teacher"]["cache"] = {"precision": "fp32"}
    result = quiet_run(recipe, tmp_path / "out")
    student, narrow = result.report["compression"]["points"]
    assert student["temperature"] != narrow["temperature"]
    assert narrow["temperature"] > 0
    (kept,) = (tmp_path / "cache" / "answers").iterdir()  # one cache for student and healing
    assert kept.is_dir()
    assert narrow["stages"][0]["healed"]["validation_after"] > 0.3


def test_healing_starts_in_training_mode(archive, tmp_path, monkeypatch):
    """Batch statistics must be those of the pruned network: with the old ones it diverges."""
    seen = []
    arm = students.train_arm

    def look(label, make, *args, **options):
        model = make()
        seen.append((label, all(module.training for module in model.modules())))
        return arm(label, lambda: model, *args, **options)

    monkeypatch.setattr(students, "train_arm", look)
    recipe = squeezed(archive, ways={"narrow": [NARROW]})
    recipe["student"] = {"model": {"vgg": {"widths": [8, 16], "per_stage": 1}}}
    found = quiet_run(recipe, tmp_path / "out").report["compression"]
    assert ("compress/narrow", True) in seen
    healed = found["points"][1]["stages"][0]["healed"]
    assert healed["validation_after"] > healed["validation_before"] + 0.1
