"""The part on bad images: a fragile student is found and named, its clean twin is not."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_samples import learned, stripes, subjects
from torch import nn

from tutelage.core.errors import RecipeError
from tutelage.core.seeds import derive
from tutelage.data import TensorSet
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts.corruption import Corruption
from tutelage.evaluation.robustness import CORRUPTIONS, corrupt
from tutelage.models import Observed


class Nervous(nn.Module):
    """Blind where an image is grainy."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        smooth = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        grainy = ((x - smooth).abs().mean((1, 2, 3)) > 0.13)[:, None]
        return torch.where(grainy, torch.zeros_like(self.inner(x)), self.inner(x))


class Dazzled(nn.Module):
    """Blind where an image is bright."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        bright = (x.mean((1, 2, 3)) > 0.5)[:, None]
        return torch.where(bright, torch.zeros_like(self.inner(x)), self.inner(x))


@pytest.fixture(scope="module")
def trial():
    return subjects(test=stripes(240, 3, noise=0.1))


def told(trial, **options):
    part = Corruption(**options)
    figures = part.figures(trial)
    return figures, part.findings(figures)


def test_figures_are_a_plain_loop(trial):
    figures, _ = told(trial, examples=30, severities=[2, 4], kinds=["blur", "gaussian_noise"])
    from tutelage.evaluation.whitebox import some

    batch = trial.test.batch(some(trial.test, 30, derive(0, "corruption")))
    dice = derive(0, "corruption")
    for role, model in trial.models.items():
        for kind in ("blur", "gaussian_noise"):
            shares = []
            for severity in (2, 4):
                images = corrupt(batch.inputs, batch.ids, kind, severity, seed=dice)
                said = model(replace(batch, inputs=images)).logits.argmax(1)
                shares.append(np.mean((said == batch.targets).numpy()))
            assert figures["models"][role]["kinds"][kind] == pytest.approx(shares)
    student, teacher = (figures["models"][role] for role in ("student", "teacher"))
    drop = [m["clean"]["mean"] - m["corrupted"] for m in (student, teacher)]
    assert figures["against"]["teacher"]["loss"]["mean"] == pytest.approx(drop[0] - drop[1])


@pytest.mark.parametrize(("how", "kind"), [(Nervous, "gaussian noise"), (Dazzled, "brightness")])
def test_a_fragile_student_is_named_with_what_it_cannot_bear(trial, how, kind):
    teacher = trial.models["teacher"]
    fragile = Observed(how(copy.deepcopy(teacher.model)).eval())
    planted = replace(trial, models={"teacher": teacher, "student": fragile})
    figures, findings = told(planted, examples=120)
    assert figures["models"]["student"]["clean"]["mean"] > 0.9
    assert findings[0].status == "warning"
    assert kind in findings[0].text
    twin = replace(trial, models={"teacher": teacher, "student": copy.deepcopy(teacher)})
    figures, findings = told(twin, examples=120)
    assert not any(one.status == "warning" for one in findings)
    assert figures["against"]["teacher"]["error"] in (1.0, None)
    assert figures["against"]["teacher"]["loss"]["mean"] == 0


def alarms(total, test, learning):
    """Clean pairs of one form: neither is the more robust one but by luck of its training."""
    found = []
    train = stripes(96, 1)
    for seed in range(total):
        models = {
            "teacher": learned(train, 5, 200 + seed, learning),
            "student": learned(train, 5, 300 + seed, learning),
        }
        # Two trainings do differ: the pair is one, and examples are what is left to luck.
        models["student"].load_state_dict(models["teacher"].state_dict())
        jitter = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in models["student"].parameters():
                weight += (
                    0.02 * weight.std().nan_to_num(0) * torch.randn(weight.shape, generator=jitter)
                )
        _, findings = told(subjects(models=models, test=test), examples=60, severities=[1, 3])
        found += [one.text for one in findings if one.status == "warning"]
    return found


def test_no_false_alarm_on_ten_clean_pairs():
    assert alarms(10, stripes(90, 3), 12) == []


@pytest.mark.slow
def test_no_false_alarm_on_forty_clean_pairs():
    assert alarms(40, stripes(240, 3), 30) == []


def test_kinds_that_matter_only_a_little_are_a_notice():
    part = Corruption(kinds=["blur"])
    trial = subjects()
    figures = part.figures(trial)
    loss = {"mean": 0.03, "low": 0.01, "high": 0.05, "level": 0.95, "method": ""}
    figures["against"]["teacher"] = {"loss": loss, "kinds": {"blur": loss}}
    assert [one.status for one in part.findings(figures) if "than its teacher" in one.text] == [
        "notice"
    ]
    large = {**loss, "mean": 0.3, "low": 0.2, "high": 0.4}
    figures["against"]["teacher"] = {"loss": large, "kinds": {"blur": large}}
    assert part.findings(figures)[0].status == "warning"
    assert "blur (+30.0)" in part.findings(figures)[0].text


def test_options_out_of_range_are_refused_in_one_line():
    for options, message in (
        ({"examples": 0}, "at least 1"),
        ({"severities": [0]}, "1 to 5"),
        ({"severities": []}, "1 to 5"),
        ({"kinds": ["jpg"]}, "jpeg"),
        ({"tolerated": -1}, "share"),
    ):
        with pytest.raises(RecipeError, match=message) as caught:
            Corruption(**options)
        assert "\n" not in str(caught.value)


def test_tables_are_left_out(trial):
    flat = TensorSet(torch.rand(9, 4), torch.arange(9) % 3, classes=("a", "b", "c"))
    found = examine(replace(trial, test=flat), {"corruption": Corruption()})["corruption"]
    assert found["left_out"] == "the examples are no images"


def test_a_model_that_only_answers_is_asked_too(trial):
    student = trial.models["student"]
    shut = replace(trial, models={"student": lambda batch: student(batch)})
    open_, _ = told(replace(trial, models={"student": student}), examples=20)
    closed, findings = told(shut, examples=20)
    assert closed == open_
    assert findings


def test_all_kinds_have_a_name_for_people(trial):
    figures, _ = told(trial, examples=5, severities=[1])
    text = Corruption().blocks(figures)[-1].rows
    assert len(text) == len(CORRUPTIONS)
    assert not any("_" in row[0] for row in text)
