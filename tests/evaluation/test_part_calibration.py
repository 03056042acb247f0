"""The part ``calibration``: a planted dishonesty is found and named, its honest twin is not."""

from dataclasses import replace

import pytest
import torch
from evaluation_samples import learned, stripes, subjects

from tutelage.core.errors import RecipeError
from tutelage.core.seeds import generator
from tutelage.data import Groups
from tutelage.evaluation import Predictions, predict
from tutelage.evaluation.examining import examine
from tutelage.evaluation.faces.blocks import as_html, as_markdown
from tutelage.evaluation.parts import Calibration
from tutelage.evaluation.subjects import Subjects
from tutelage.models import tempered


@pytest.fixture(scope="module")
def model():
    """A network that has learned a little, and is unsure."""
    return tempered(learned(stripes(96, 1), 3, 0, steps=25), 2.0)


def drawn(model, examples, seed):
    """The same images with labels drawn by the model's own confidence: of these it is honest."""
    p = predict(model, examples).logits.double().softmax(-1)
    dice = generator(seed, "drawn labels")
    return examples.with_targets(torch.multinomial(p, 1, generator=dice)[:, 0])


def trial(model, student, *, total=600, seed=0, groups=None):
    test = drawn(model, stripes(total, 3, noise=0.6), seed)
    return Subjects(
        {"student": student, "teacher": model},
        test=test,
        validation=drawn(model, stripes(300, 2, noise=0.6), seed + 1000),
        groups=groups or {},
        seed=seed,
    )


def told(subjects, **options):
    found = examine(subjects, {"calibration": Calibration(**options)})["calibration"]
    assert found["left_out"] is None
    return found


def warned(found):
    return [one["text"] for one in found["findings"] if one["status"] == "warning"]


class TestThreeTimesTheLogits:
    def test_are_found_named_and_mended(self, model):
        found = told(trial(model, tempered(model, 1 / 3)))
        (warning,) = warned(found)
        assert "too sure of itself" in warning
        figures = found["figures"]["models"]
        assert figures["student"]["gap"]["low"] > 0.05
        assert figures["student"]["chance"]["p"] < 0.01 < figures["teacher"]["chance"]["p"]
        mended = figures["student"]["temperature"]
        assert 2.2 < mended["value"] < 4
        assert mended["ece_change"]["high"] < 0
        assert mended["nll_change"]["high"] < 0
        texts = " ".join(one["text"] for one in found["findings"])
        assert "helps" in texts
        assert "calibrate: true" in texts
        assert "less than its teacher's" in texts

    def test_a_third_of_them_is_too_unsure(self, model):
        (warning,) = warned(told(trial(model, tempered(model, 3.0))))
        assert "too unsure of itself" in warning

    def test_their_honest_twin_is_not_called_anything(self, model):
        found = told(trial(model, model))
        assert warned(found) == []
        texts = " ".join(one["text"] for one in found["findings"])
        assert "can be trusted" in texts
        assert "not shown to help" in texts

    def test_twenty_honest_models_raise_at_most_one_alarm(self, model):
        alarms = 0
        for seed in range(20):
            sides = {
                "side": Groups("side", ("a", "b"), torch.arange(400) + 3000, torch.arange(400) % 2)
            }
            found = told(trial(model, model, total=400, seed=seed, groups=sides), draws=200)
            alarms += bool(warned(found))
        assert alarms <= 1


class TestGroups:
    def test_a_group_whose_labels_are_noise_is_named(self, model):
        usual = trial(model, model)
        half = torch.arange(600) % 2
        sides = Groups("side", ("plain", "noisy"), usual.test.ids, half)
        targets = torch.where(half.bool() & (torch.arange(600) % 3 != 0), 0, usual.test.targets)
        plant = Subjects(
            usual.models, test=usual.test.with_targets(targets), groups={"side": sides}
        )
        named = [text for text in warned(told(plant)) if "group" in text]
        assert len(named) == 1
        assert "group noisy (side) the student is surer" in named[0]

    def test_a_group_of_a_few_is_shown_and_not_judged(self, model):
        usual = trial(model, model)
        few = Groups("camera", ("a", "b", "c"), usual.test.ids, (torch.arange(600) < 5).long())
        rows = told(replace(usual, groups={"camera": few}))["figures"]["groups"]["camera"]
        assert [row["group"] for row in rows] == ["a", "b"]
        assert [row["differs"] for row in rows] == [None, None]


class TestEdges:
    def test_without_validation_it_says_why_no_temperature_is_fitted(self, model):
        found = told(replace(trial(model, model), validation=None))
        assert found["figures"]["models"]["student"]["temperature"] is None
        assert any("no validation" in one["text"] for one in found["findings"])

    def test_all_right_on_validation_is_said(self):
        usual = subjects()
        student = usual.answers("student", "validation")
        sure = Predictions(
            10 * torch.eye(3)[student.targets], student.targets, student.ids, student.classes
        )
        usual.know("student", "validation", sure)
        found = told(usual)
        assert found["figures"]["models"]["student"]["temperature"]["limit"] == "certain"
        assert any("No temperature can be determined" in one["text"] for one in found["findings"])

    def test_a_broken_teacher_is_left_out_and_a_broken_student_is_said(self, model):
        for role, left in (("teacher", None), ("student", "NaN")):
            usual = trial(model, model)
            right = usual.answers(role)
            broken = right.logits.clone()
            broken[0, 0] = float("nan")
            usual.know(role, "test", replace(right, logits=broken))
            found = examine(usual, {"calibration": Calibration()})["calibration"]
            if left is None:
                assert found["figures"]["broken"] == ["teacher"]
                assert "teacher left out" in as_html(Calibration().blocks(found["figures"]))
            else:
                assert left in found["left_out"]

    def test_a_student_that_rules_the_truth_out_has_no_likelihood_and_still_a_report(self, model):
        usual = trial(model, model)
        for split in ("test", "validation"):
            right = usual.answers("student", split)
            ruled = right.logits.clone()
            ruled[torch.arange(len(ruled)), right.targets] = -torch.inf
            usual.know("student", split, replace(right, logits=ruled))
        figures = told(usual)["figures"]["models"]["student"]
        assert figures["nll"] is None
        assert figures["temperature"] is None

    def test_its_pictures_are_small_and_load_nothing(self, model):
        figures = told(trial(model, tempered(model, 1 / 3)))["figures"]
        page = as_html(Calibration().blocks(figures))
        assert page.count("<svg") == 2
        assert max(len(svg) for svg in page.split("<svg")[1:]) < 60_000
        assert "http" not in page
        assert "| Temperature |" in as_markdown(Calibration().blocks(figures)).replace("|  |", "|")

    @pytest.mark.parametrize(
        "options",
        [
            {"bins": 1},
            {"draws": 10},
            {"strictness": 0.9},
            {"strictness": 0.001},
            {"tolerance": -1.0},
        ],
    )
    def test_options_out_of_range_are_refused(self, options):
        with pytest.raises(RecipeError, match=next(iter(options))):
            Calibration(**options)
