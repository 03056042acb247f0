"""The setting that a recipe names."""

import functools
import json

import pytest
import torch

import tutelage
from tutelage.core.errors import DataError, ModelError, RecipeError
from tutelage.data import from_tensors


def data():
    dice = torch.Generator().manual_seed(0)
    inputs = torch.rand(240, 1, 8, 8, generator=dice)
    targets = torch.arange(240) % 3
    inputs[torch.arange(240), 0, targets * 2] += 1
    return from_tensors(inputs.clamp(0, 1), targets)


def distil(setting, out=None, **more):
    options = {
        "objective": ["ce", "kd"],
        "train": {"epochs": 8, "batch_size": 32, "learning_rate": 0.1},
        "export": False,
        "report": "none",
        "quiet": True,
        **more,
    }
    return tutelage.distill(
        {"model": {"mlp": {"hidden": [16]}}, "train": {"epochs": 6, "augment": []}},
        {"mlp": {"hidden": [8]}},
        data(),
        setting=setting,
        out=out,
        **options,
    )


STRONG = {"strong": {"augment": ["flip"]}}


@pytest.mark.parametrize(
    ("setting", "more"),
    [
        ("mutual", {}),
        ({"mutual": {"peers": 3, "joint": True}}, {}),
        ("class_wise", {}),
        ("last_batch", {}),
        ("progressive_self", {"objective": ["ce"]}),
        ("mean_teacher", {}),
        ("consistency", {"variants": STRONG}),
    ],
)
def test_a_recipe_teaches_in_the_way_it_names(setting, more, monkeypatch):
    made = []
    from tutelage.recipe import ways

    whole = ways.Way.setting

    def look(self, *given):
        made.append(whole(self, *given))
        return made[-1]

    monkeypatch.setattr(ways.Way, "setting", look)
    result = distil(setting, **more)
    name = setting if isinstance(setting, str) else next(iter(setting))
    from tutelage.core.registry import get

    assert {type(one) for one in made} == {get("setting", name)}
    assert result.report["models"]["student"]["accuracy"] > 0.6
    asked = any("was not asked" in note for note in result.report["notes"])
    assert asked == (name != "consistency")


def test_peers_begin_with_weights_of_their_own_and_the_first_is_shipped(monkeypatch):
    from tutelage.settings import Mutual

    seen = []
    begin = Mutual.__init__

    @functools.wraps(begin)
    def look(self, peers, *rest, **more):
        seen.append([next(peer.model.parameters()).detach().clone() for peer in peers])
        begin(self, peers, *rest, **more)

    monkeypatch.setattr(Mutual, "__init__", look)
    distil({"mutual": {"peers": 3}})
    first, second, third = seen[-1]
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_two_runs_are_the_same_and_say_who_taught(tmp_path):
    whole = distil("mutual", tmp_path / "whole")
    again = distil("mutual", tmp_path / "again")
    for one, other in zip(
        whole.student.state_dict().values(), again.student.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    resolved = (tmp_path / "whole" / "resolved.yaml").read_text()
    assert "mutual" in resolved
    notes = json.loads((tmp_path / "whole" / "report.json").read_text())["notes"]
    assert any("2 peers learn from each other" in note for note in notes)


@pytest.mark.parametrize(
    ("setting", "said", "kind"),
    [
        ("mutal", "setting: there is no 'mutal'. Did you mean 'mutual'?", RecipeError),
        ("noisy_student", "a loss of its own", RecipeError),
        ("blocks", "setting.blocks: the blockwise setting", RecipeError),
        ({"mutual": {"peers": 1}}, "setting.mutual.peers: got 1: write 2 to 16", RecipeError),
        ({"mutual": {"piers": 3}}, "Did you mean 'peers'", RecipeError),
        ({"byot": {"exits": ["0"]}}, "needs deepest", RecipeError),
        ("multi_exit", "has one exit", ModelError),
        ("consistency", "has no variants", DataError),
    ],
)
def test_what_a_recipe_cannot_have_is_refused_in_one_line(setting, said, kind, tmp_path):
    with pytest.raises(kind, match=said.replace("?", r"\?")) as caught:
        distil(setting, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
