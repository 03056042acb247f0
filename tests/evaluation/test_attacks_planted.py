"""Models that hide their gradients are found and named; honest ones are not."""

import copy

import pytest
import torch
from evaluation_samples import learned, stripes, subjects
from torch import nn

from tutelage.evaluation.parts.attacks import Attacks
from tutelage.evaluation.robustness.attacks import right, without_gradient
from tutelage.evaluation.whitebox import whitebox
from tutelage.models import Observed


class Scaled(nn.Module):
    """Masks gradients: a softmax so saturated that float32 has no slope left."""

    def __init__(self, inner: nn.Module, by: float = 1e4):
        super().__init__()
        self.inner, self.by = inner, by

    def forward(self, x):
        return self.by * self.inner(x)


class Rounded(nn.Module):
    """Masks gradients: inputs are rounded to eight levels, a step function."""

    def __init__(self, inner: nn.Module, levels: int = 7):
        super().__init__()
        self.inner, self.levels = inner, levels

    def forward(self, x):
        return self.inner((x * self.levels).round() / self.levels)


class Wavy(nn.Module):
    """Masks gradients: a fine ripple on the inputs points them anywhere."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x + 0.02 * torch.sin(400 * x))


def masked(model: Observed, how) -> Observed:
    return Observed(how(copy.deepcopy(model.model)).eval())


@pytest.fixture(scope="module")
def trial():
    return subjects()


def named(trial, **options):
    part = Attacks(**{"examples": 60, "steps": 6, "restarts": 1, "auto": "none", **options})
    figures = part.figures(trial)
    return figures, part.findings(figures)


class TestPlanted:
    """A model that hides its gradients is found and named; its clean twin is not."""

    @pytest.mark.parametrize("how", [Scaled, Rounded, Wavy])
    def test_a_masked_student_is_named(self, trial, how):
        honest = trial.models["student"]
        hidden = {**trial.models, "student": masked(honest, how)}
        assert torch.equal(  # it answers as before, nearly
            hidden["student"](trial.test.batch(torch.arange(90))).logits.argmax(1),
            honest(trial.test.batch(torch.arange(90))).logits.argmax(1),
        )
        figures, findings = named(subjects(models=hidden), epsilon=0.3)
        assert findings[0].status == "warning"
        assert "The student hides its gradients (gradient masking)" in findings[0].text
        assert not any("not shown to be less robust" in one.text for one in findings)
        others = [
            one for one in findings if "hides its gradients" in one.text and one.status == "notice"
        ]
        assert others == []
        kinds = {sign["kind"] for sign in figures["models"]["student"]["signs"]}
        assert kinds & {"flat", "unbounded", "weak", "strong"}

    def test_its_clean_twin_is_not(self, trial):
        figures, findings = named(trial, epsilon=0.3)
        assert not any(model["signs"] for model in figures["models"].values())
        assert not any("gradient masking" in one.text for one in findings)
        assert any(one.status == "fine" and "Nothing hints" in one.text for one in findings)

    def test_autoattack_gives_a_rounded_model_away(self, trial):
        """Its square attack asks for no gradient."""
        models = {"student": masked(trial.models["student"], Rounded)}
        figures, _ = named(subjects(models=models), epsilon=0.3, auto="short", examples=30)
        student = figures["models"]["student"]
        assert student["attacks"]["auto"]["mean"] < student["attacks"]["pgd"]["mean"] - 0.3
        assert "strong" in {sign["kind"] for sign in student["signs"]}

    def test_a_masked_teacher_is_no_fault_of_the_student(self, trial):
        models = {**trial.models, "teacher": masked(trial.models["teacher"], Scaled)}
        _, findings = named(subjects(models=models), epsilon=0.3)
        about = [one for one in findings if "hides its gradients (" in one.text]
        assert [one.status for one in about] == ["notice"]
        assert "The teacher hides" in about[0].text

    def alarms(self, total, learning, **options):
        test, found = stripes(90, 3), []
        for seed in range(total):
            train = stripes(96, 20 + seed, noise=0.15 + 0.02 * (seed % 12))
            student = learned(train, 3 + seed % 4, seed, steps=learning + 3 * (seed % 6))
            trial = subjects(models={"student": student}, test=test)
            figures, _ = named(trial, epsilon=(0.1, 0.2, 0.3)[seed % 3], **options)
            found += [(seed, sign) for sign in figures["models"]["student"]["signs"]]
        return found

    def test_no_false_alarm_on_twelve_clean_models(self):
        assert self.alarms(12, 12, examples=40) == []

    @pytest.mark.slow
    def test_no_false_alarm_on_twenty_clean_models_under_autoattack(self):
        assert self.alarms(20, 40, examples=60, auto="short", steps=20, restarts=2) == []

    def test_a_student_that_lost_its_teachers_robustness_is_told_of(self, trial):
        """The teacher is robust where its inputs are averaged; the student's are not."""

        class Averaged(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                x = 0.5 * x + 0.25 * (x.roll(1, -1) + x.roll(-1, -1))
                return self.inner(x.mean(-1, keepdim=True).expand_as(x))

        train = stripes(96, 1)
        robust = Observed(Averaged(copy.deepcopy(learned(train, 8, 0).model)).eval())
        fragile = Observed(
            nn.Sequential(_Sharp(), copy.deepcopy(learned(train, 8, 0).model)).eval()
        )
        models = {"teacher": robust, "student": fragile}
        figures, findings = named(subjects(models=models), epsilon=0.15)
        assert figures["against"]["teacher"]["high"] < -0.05
        student = figures["models"]["student"]
        assert student["without_gradient"] > 0  # sure of itself, and yet attacked in earnest
        assert student["signs"] == []
        assert any("did not come over" in one.text and one.status == "warning" for one in findings)
        same = {"teacher": robust, "student": copy.deepcopy(robust)}
        _, findings = named(subjects(models=same), epsilon=0.15)
        assert not any(one.status == "warning" for one in findings)


class _Sharp(nn.Module):
    """Differences of neighbouring pixels are made larger: fragile."""

    def forward(self, x):
        return x + 4 * (
            x - 0.25 * (x.roll(1, -1) + x.roll(-1, -1) + x.roll(1, -2) + x.roll(-1, -2))
        )


def test_gradients_that_underflow_are_seen(trial):
    model = trial.models["student"]
    batch = trial.test.batch(torch.arange(30))
    for made, share in (
        (model, 0.0),
        (masked(model, Scaled), 1.0),
        (masked(model, Rounded), 1.0),
    ):
        with whitebox(made) as logits:
            flat = without_gradient(logits, batch.inputs, batch.targets)
            sure = right(logits, batch.inputs, batch.targets)
        assert flat[sure].double().mean() == pytest.approx(share, abs=0.05)
