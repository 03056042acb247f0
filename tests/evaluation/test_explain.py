"""Where models look: pictures, and a student that looks at a planted mark."""

import base64
import copy
import functools
import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_samples import learned, stripes, subjects
from PIL import Image
from torch import nn

from tutelage.core.errors import RecipeError
from tutelage.core.seeds import generator
from tutelage.data import TensorSet
from tutelage.evaluation.examining import examine
from tutelage.evaluation.explain import (
    unlearned,
)
from tutelage.evaluation.explain.plots import as_png, as_veil, where_they_look
from tutelage.evaluation.parts.explanations import Explanations
from tutelage.models import Observed


@pytest.fixture(scope="module")
def trial():
    return subjects()


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def marked(total, seed, *, stripe=True, honest=False) -> TensorSet:
    """Stripes with a mark in a corner whose brightness says the class (or nothing)."""
    plain = stripes(total, seed)
    lot = torch.randint(3, (total,), generator=generator(seed, "mark"))
    inputs = (
        plain.inputs.clone()
        if stripe
        else plain.inputs[torch.randperm(total, generator=dice(seed))]
    )
    inputs[:, 0, :3, 9:] = ((lot if honest else plain.targets) / 2)[:, None, None].float()
    return TensorSet(inputs, plain.targets, classes=plain.classes, ids=plain.ids, name=plain.name)


@functools.cache
def _teacher() -> Observed:
    return learned(marked(96, 1, honest=True), 8, 50)


class TestPlanted:
    """A student that looks at a mark in a corner is found and named; its clean twin is not."""

    def found(self, student):
        models = {"teacher": _teacher(), "student": student}
        trial = subjects(models=models, test=marked(90, 3))
        part = Explanations(integrated=0, pictures=0)
        figures = part.figures(trial)
        return figures, part.findings(figures)

    def test_the_mark_is_named(self):
        student = learned(marked(192, 5, stripe=False), 6, 1, steps=120)
        figures, findings = self.found(student)
        assert [one["cell"] for one in figures["spots"]][:1] == [3]
        assert findings[0].status == "warning"
        assert "decides by the top right corner" in findings[0].text

    def alarms(self, total, learning):
        told = []
        for seed in range(total):
            student = learned(marked(96, 1, honest=True), 4 + seed % 5, seed, steps=learning)
            told += [one for one in self.found(student)[1] if one.status == "warning"]
        return told

    def test_no_false_alarm_on_ten_clean_students(self):
        assert self.alarms(10, 20) == []

    @pytest.mark.slow
    def test_no_false_alarm_on_forty_clean_students(self):
        assert self.alarms(40, 40) == []

    def test_maps_that_do_not_depend_on_the_weights_are_not_trusted(self, trial):
        part = Explanations(integrated=0, pictures=0)
        figures = part.figures(trial)
        blind = {**figures, "unlearned": {"mean": 0.9, "low": 0.8, "high": 0.95}}
        assert any("learned nothing" in one.text for one in part.findings(blind))
        assert not any("learned nothing" in one.text for one in part.findings(figures))

    def test_a_copy_of_the_teacher_looks_where_it_looks(self, trial):
        models = {**trial.models, "student": copy.deepcopy(trial.models["teacher"])}
        part = Explanations(integrated=8, pictures=0)
        figures = part.figures(subjects(models=models))
        assert figures["alike"]["student"]["rank"] == pytest.approx(1)
        assert figures["integrated"]["alike"]["student"]["cosine"] == pytest.approx(1)
        assert any(
            "look more where its teacher looks" in one.text for one in part.findings(figures)
        )
        alone = {**models, "baseline": copy.deepcopy(trial.models["teacher"])}
        told = part.findings(part.figures(subjects(models=alone)))
        assert any("not shown" in one.text for one in told)

    def test_a_copy_that_has_learned_nothing_has_other_weights_and_leaves_the_model(self, trial):
        model = trial.models["student"]
        before = copy.deepcopy(model.state_dict())
        state = torch.get_rng_state()
        twin = unlearned(model, 0)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        moved = [n for n, p in twin.named_parameters() if not torch.equal(p, before[n])]
        assert moved == [n for n, p in model.named_parameters() if p.ndim > 1]


class TestPart:
    def test_pictures_are_small_whole_and_load_nothing(self, trial):
        part = Explanations()
        figures = part.figures(trial)
        svg = next(block.svg for block in part.blocks(figures) if hasattr(block, "svg"))
        assert len(svg) < 60_000
        assert "http" not in svg
        shown = figures["shown"]
        assert svg.count("<image") == len(shown) * (1 + 2 * 3)  # the control is not shown
        for one in shown:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["image"]))))
            row = (trial.test.ids == one["id"]).nonzero().item()
            want = trial.test.inputs[row, 0].mul(255).round().numpy()
            assert np.abs(pixels - want).max() <= 1

    def test_the_veil_is_clear_where_the_map_is_highest(self):
        places = torch.tensor([[0.0, 1.0], [0.5, 0.25]])
        veil = Image.open(io.BytesIO(base64.b64decode(as_veil(places)))).convert("RGBA")
        dense = np.asarray(veil)[..., 3].astype(int)
        assert dense[0, 1] == 0
        assert dense[0, 0] == 235
        assert 0 < dense[1, 0] < dense[1, 1] < 235
        assert as_veil(torch.zeros(3, 3))

    def test_large_and_coloured_images_are_made_small(self):
        shown = Image.open(io.BytesIO(base64.b64decode(as_png(torch.rand(3, 100, 200)))))
        assert shown.size == (48, 24)
        assert shown.mode == "RGB"

    def test_names_are_written_as_text(self):
        one = {
            "class": "<b>x",
            "image": as_png(torch.rand(1, 4, 4)),
            "maps": {"student": {"veil": as_veil(torch.rand(2, 2)), "answer": "<i>y"}},
        }
        svg = where_they_look([one], ["student"])
        assert "<b>" not in svg
        assert "&lt;b&gt;x" in svg

    def test_options_out_of_range_are_refused_in_one_line(self):
        for options in ({"examples": 0}, {"pictures": -1}, {"tolerated": 3}):
            with pytest.raises(RecipeError) as caught:
                Explanations(**options)
            assert "\n" not in str(caught.value)

    def test_models_without_a_map_are_asked_by_integrated_gradients(self, trial, monkeypatch):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            line = Observed(nn.Sequential(nn.Flatten(), nn.Linear(144, 3)).eval())
        mixed = replace(trial, models={"teacher": trial.models["teacher"], "student": line})
        part = Explanations(examples=20, pictures=1, integrated=5)
        found = examine(mixed, {"explanations": part})["explanations"]
        assert found["left_out"] is None
        assert found["figures"]["models"]["student"]["method"] == "integrated"
        monkeypatch.setitem(sys.modules, "captum.attr", None)
        assert "tutelage[explain]" in part.absent(mixed)
