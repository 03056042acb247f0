"""Fidelity, losses and calibration on real images, with networks that really learned."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tutelage.core.seeds import generator
from tutelage.data import fashion_mnist_small
from tutelage.evaluation import Predictions, predict
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Calibration, Fidelity, Lost
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Intake, Observed, tempered

pytestmark = pytest.mark.slow


def taught(inputs, targets, width, seed, epochs=6):
    """A network of one hidden layer that learned these targets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
    made = Observed(net, intake=Intake(0.286, 0.353))
    optimizer, dice = torch.optim.Adam(net.parameters(), 2e-3), generator(seed, "order")
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=dice).split(64):
            optimizer.zero_grad()
            answer = net(made.intake(inputs[rows]))
            nn.functional.cross_entropy(answer, targets[rows]).backward()
            optimizer.step()
    net.zero_grad(set_to_none=True)
    return made.eval()


@pytest.fixture(scope="module")
def splits():
    whole = fashion_mnist_small()
    return SimpleNamespace(
        train=whole.train, validation=whole.validation, test=whole.test.open("these tests")
    )


@pytest.fixture(scope="module")
def models(splits):
    """A teacher that mistakes many dresses for coats; students with and without it."""
    batch = splits.train.batch(torch.arange(len(splits.train)))
    wrong = (batch.targets == 3) & (torch.arange(len(batch.targets)) % 10 < 7)
    teacher = taught(batch.inputs, torch.where(wrong, 4, batch.targets), 128, 0)
    with torch.no_grad():
        said = teacher(batch).logits.argmax(-1)
    return {
        "teacher": teacher,
        "student": taught(batch.inputs, said, 32, 1),
        "baseline": taught(batch.inputs, batch.targets, 32, 1),
        "other": taught(batch.inputs, batch.targets, 32, 2),
    }


def trial(splits, models, **roles):
    return Subjects(
        {role: models[name] if isinstance(name, str) else name for role, name in roles.items()},
        test=splits.test,
        validation=splits.validation,
    )


def found_by(part, subjects):
    (found,) = examine(subjects, {"part": part}).values()
    assert found["left_out"] is None
    return found, [one["text"] for one in found["findings"] if one["status"] == "warning"]


def test_errors_that_the_student_learned_from_its_teacher_are_named(splits, models):
    usual = trial(splits, models, teacher="teacher", student="student", baseline="baseline")
    found, warnings = found_by(Fidelity(), usual)
    assert any("copies its teacher's errors" in text for text in warnings)
    assert found["figures"]["taught"]["agreement"]["low"] > 0


def test_of_its_clean_twin_they_are_not(splits, models):
    usual = trial(splits, models, teacher="teacher", student="other", baseline="baseline")
    found, warnings = found_by(Fidelity(), usual)
    assert warnings == []
    assert found["figures"]["taught"]["errors"]["low"] <= 0


def test_a_class_that_the_student_lost_is_named_and_shown(splits, models):
    usual = trial(splits, models, teacher="baseline", student="student")
    found, warnings = found_by(Lost(), usual)
    (warning,) = warnings
    assert "in the class Dress" in warning
    assert found["figures"]["confusions"][0]["true"] == "Dress"
    assert sum(one["true"] == "Dress" for one in found["figures"]["worst"]) > 12


def test_a_student_that_differs_by_chance_alone_lost_nothing_in_particular(splits, models):
    named = 0
    for seed in range(10):
        usual = trial(splits, models, teacher="baseline", student="baseline")
        answers = usual.answers("teacher")
        noise = torch.randn(answers.logits.shape, generator=generator(seed, "chance"))
        usual.know("student", "test", replace(answers, logits=answers.logits + 0.7 * noise))
        found, warnings = found_by(Lost(), usual)
        assert found["figures"]["lost"] > 20
        named += bool(warnings)
    assert named <= 2


def test_three_times_the_logits_are_named_and_an_honest_model_is_not(splits, models):
    model = models["baseline"]
    plant = trial(splits, models, teacher=model, student=tempered(model, 1 / 3))
    found, warnings = found_by(Calibration(), plant)
    assert any("too sure of itself" in text for text in warnings)
    after = found["figures"]["models"]["student"]["temperature"]
    assert after["ece_change"]["high"] < 0
    honest = trial(splits, models, student=model)
    alarms = 0
    for seed in range(12):
        for split in ("test", "validation"):
            answers: Predictions = predict(model, honest.examples(split))
            dice = generator(seed, "honest", split)
            drawn = torch.multinomial(answers.logits.double().softmax(-1), 1, generator=dice)[:, 0]
            honest.know("student", split, replace(answers, targets=drawn))
        alarms += bool(found_by(Calibration(), honest)[1])
    assert alarms <= 1
