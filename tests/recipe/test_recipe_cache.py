"""A recipe whose teacher is asked once."""

import json

import pytest
import torch
from recipe_samples import changed, content, quiet_run, said_by_run, small, write

from tutelage.core.errors import DataError, MissingFeature, RecipeError, SparseAnswer
from tutelage.models import Frozen
from tutelage.recipe.check import check
from typed import typed


def cached(archive, **cache):
    recipe = small(archive)
    recipe["teacher"]["cache"] = {"views": 2, **cache}
    recipe["train"]["augment"] = [{"shift": {"pixels": 2}}, "flip"]
    recipe["train"]["epochs"] = 3
    recipe["baseline"] = False
    recipe["teacher"]["train"]["augment"] = []
    return recipe


@pytest.fixture
def asked(monkeypatch):
    """Batches that any frozen teacher answered while students learnt."""
    seen, forward = [], Frozen.forward

    def counted(self, batch):
        seen.append(len(batch))
        return forward(self, batch)

    monkeypatch.setattr(Frozen, "forward", counted)
    return seen


def folders(tmp_path):
    return sorted((tmp_path / "cache" / "answers").glob("*"))


def test_a_run_asks_its_teacher_once_for_each_view_and_the_next_run_not_at_all(
    archive, tmp_path, asked
):
    recipe = cached(archive)
    said = said_by_run(recipe, tmp_path / "one")
    assert "answers of the teacher are kept in" in said
    # 400 examples in 13 batches: two views of three epochs, and a first look
    assert 2 * 400 <= sum(asked) <= 2 * 400 + 32
    (folder,) = folders(tmp_path)
    asked.clear()
    before = content(folder)
    quiet_run({**recipe, "seeds": [5]}, tmp_path / "two")
    assert asked == []
    assert content(folder) == before


def test_a_cache_built_ahead_is_the_one_that_the_run_uses(archive, tmp_path, monkeypatch, asked):
    recipe = write(tmp_path / "recipe.yaml", cached(archive))
    status, out, err = typed(monkeypatch, "cache", recipe)
    assert (status, err) == (0, "")
    assert "800 answers (2 views), 25.6 kB, 32 bytes each; 800 asked for now" in out
    status, out, _ = typed(monkeypatch, "cache", recipe)
    assert status == 0
    assert "800 answers (2 views)" in out
    assert "0 asked for now" in out
    asked.clear()
    quiet_run(cached(archive), tmp_path / "run")
    assert asked == []


def test_the_command_puts_the_cache_where_it_is_told(archive, tmp_path, monkeypatch, asked):
    recipe = write(tmp_path / "recipe.yaml", cached(archive))
    words = ("cache", recipe, "--out", tmp_path / "kept", "--set", "teacher.cache.views=1")
    status, out, _ = typed(monkeypatch, *words)
    assert status == 0
    assert f"{tmp_path / 'kept'}: 400 answers (1 view)" in out
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["classes"] == 10
    assert manifest["augment"][0][2] == {"pixels": 2}
    asked.clear()
    recipe = cached(archive, views=1, folder=str(tmp_path / "kept"))
    quiet_run(recipe, tmp_path / "run")
    assert asked == []


def test_without_a_cache_there_is_nothing_to_build(archive, tmp_path, monkeypatch):
    recipe = write(tmp_path / "recipe.yaml", small(archive))
    status, _, err = typed(monkeypatch, "cache", recipe)
    assert status == 2
    assert "teacher.cache: it is missing" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train/augment", ["flip"], "another augmentation"),
        ("teacher/train/epochs", 1, "another teacher"),
        ("data/source/npz/seed", 1, "another teacher|other examples"),
        ("teacher/cache/precision", "fp32", "another precision"),
        ("teacher/cache/form", "top", "another form"),
    ],
)
def test_a_folder_of_other_answers_is_refused(archive, tmp_path, key, value, says):
    recipe = cached(archive, folder=str(tmp_path / "kept"))
    recipe["objective"] = [{"kd": {"temperature": 1}}]
    quiet_run(recipe, tmp_path / "one")
    with pytest.raises(DataError, match=f"teacher.cache: the cache in .* was made .*({says})"):
        quiet_run(changed(recipe, key, value), tmp_path / "two")


def test_without_a_folder_each_has_its_own(archive, tmp_path):
    quiet_run(cached(archive), tmp_path / "one")
    quiet_run(changed(cached(archive), "train/augment", ["flip"]), tmp_path / "two")
    assert len(folders(tmp_path)) == 2


def test_without_augmentation_there_is_one_view_and_none_to_give(archive, tmp_path, asked):
    recipe = cached(archive, views=None)
    recipe["train"]["augment"] = []
    quiet_run({**recipe, "seeds": [0, 1]}, tmp_path / "one")
    assert 400 <= sum(asked) <= 432
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert "The teacher answered once to the one view of each example" in json.dumps(report)


def test_new_views_for_ever_are_refused(archive):
    with pytest.raises(RecipeError, match=r"teacher.cache.views: got null.* write views: 4"):
        check(cached(archive, views=None))


def test_objectives_meet_the_kept_form_before_the_run(archive):
    recipe = cached(archive, form="top", k=3)
    with pytest.raises(SparseAnswer, match=r"objective.1.*set temperature: 1"):
        check(recipe)
    recipe["objective"] = [{"kd": {"temperature": 1}}]
    assert check(recipe).shares[0].term == "kd"
    recipe["teacher"]["cache"]["k"] = 11
    with pytest.raises(RecipeError, match=r"teacher.cache: k is 11, and there are 10 classes"):
        check(recipe)


def test_features_that_are_read_must_be_kept(archive, tmp_path):
    recipe = cached(archive)
    pair = {"pairs": {"hidden1": "hidden1"}, "adapter": "auto", "weight": 0.1}
    names = dict(check(small(archive)).plan.teacher.make(0).model.named_modules())
    inner = next(name for name, part in names.items() if isinstance(part, torch.nn.ReLU))
    pair["pairs"] = {inner: inner}
    recipe["objective"].append({"match": pair})
    with pytest.raises(MissingFeature, match=r"objective.2.*is none of teacher.cache.features"):
        check(recipe)
    recipe["teacher"]["cache"]["features"] = ["no.such.layer"]
    with pytest.raises(MissingFeature, match=r"is none of teacher.cache.features"):
        check(recipe)
    recipe["teacher"]["cache"]["features"] = [inner]
    quiet_run(recipe, tmp_path / "run")
    del recipe["objective"][2]
    recipe["teacher"]["cache"]["features"] = ["no.such.layer"]
    with pytest.raises(MissingFeature, match=r"teacher.cache.features: .*no.such.layer"):
        check(recipe)


def test_candidates_with_views_of_their_own_need_folders_of_their_own(archive):
    recipe = cached(archive, folder="kept")
    recipe["tune"] = {"student": {"train.augment": [["flip"]]}}
    with pytest.raises(RecipeError, match=r"tune.student.train.augment: .* leave folder out"):
        check(recipe)


def test_a_cache_changes_nothing_else_of_the_teacher(archive, tmp_path):
    said = [said_by_run(small(archive), tmp_path / "live")]
    said.append(said_by_run(cached(archive), tmp_path / "cached"))
    assert "training for" in said[0]
    assert "kept from an earlier run" in said[1]
