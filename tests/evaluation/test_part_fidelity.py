"""The part ``fidelity``: what was taught is found, errors that were copied are named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_samples import subjects

from tutelage.core.errors import RecipeError
from tutelage.core.seeds import generator
from tutelage.evaluation import Predictions, jensen_shannon, predictive_kl
from tutelage.evaluation.examining import examine
from tutelage.evaluation.faces.blocks import as_html, as_markdown
from tutelage.evaluation.fidelity import agreeing, js_each, kl_each, shared_errors
from tutelage.evaluation.parts import Fidelity


def answers(said, like, sure=3.0):
    """Predictions that say these classes."""
    logits = sure * torch.nn.functional.one_hot(said, len(like.classes)).float()
    return replace(like, logits=logits)


def mistaken(truth, share, seed, classes=4):
    """The truth, with wrong classes for about this share."""
    dice = generator(seed, "mistakes")
    wrong = torch.rand(len(truth), generator=dice) < share
    other = (truth + torch.randint(1, classes, truth.shape, generator=dice)) % classes
    return torch.where(wrong, other, truth)


def trial(*, copied=0.0, seed=0, total=1000, teacher_errors=0.2, closed=False):
    """A teacher, a student that repeats a share of its errors, and one that never saw it."""
    truth = torch.arange(total) % 4
    like = Predictions(torch.zeros(total, 4), truth, torch.arange(90), ("a", "b", "c", "d"))
    teacher = mistaken(truth, teacher_errors, seed * 10 + 1)
    student = mistaken(truth, 0.2, seed * 10 + 2)
    dice = generator(seed, "copied")
    copies = (teacher != truth) & (torch.rand(total, generator=dice) < copied)
    said = {
        "teacher": teacher,
        "student": torch.where(copies, teacher, student),
        "baseline": mistaken(truth, 0.2, seed * 10 + 3),
    }
    found = subjects()
    models = {role: found.models[role] for role in said}
    if closed:
        models = {role: (lambda model: lambda batch: model(batch))(m) for role, m in models.items()}
    found = replace(found, models=models, groups={}, seeds={})
    for role, classes in said.items():
        found.know(role, "test", answers(classes, like))
    return found


def told(subjects, **options):
    found = examine(subjects, {"fidelity": Fidelity(**options)})["fidelity"]
    assert found["left_out"] is None
    return found


def texts(found, status):
    return [one["text"] for one in found["findings"] if one["status"] == status]


class TestSharedErrors:
    def test_they_equal_a_plain_loop(self):
        dice = generator(0, "shared")
        first, second = (torch.randn(200, 4, generator=dice) for _ in range(2))
        truth = torch.randint(4, (200,), generator=dice)
        a, b, y = first.argmax(1).tolist(), second.argmax(1).tolist(), truth.tolist()
        wrong = [i for i in range(200) if a[i] != y[i]]
        both = [i for i in wrong if b[i] != y[i]]
        same = [i for i in both if a[i] == b[i]]
        found = shared_errors(first, second, truth)
        assert (found.examples, found.both, found.same) == (len(wrong), len(both), len(same))
        assert found.copied == pytest.approx(len(same) / len(wrong))
        assert found.alike == pytest.approx(len(same) / len(both))

    def test_a_reference_without_errors_has_no_share(self):
        right = torch.eye(3)
        found = shared_errors(right, right, torch.arange(3))
        assert (found.examples, found.copied, found.alike) == (0, None, None)

    def test_figures_of_each_example_have_the_known_means(self):
        dice = generator(0, "each")
        first, second = (2 * torch.randn(70, 5, generator=dice) for _ in range(2))
        assert kl_each(first, second).mean().item() == pytest.approx(predictive_kl(first, second))
        assert js_each(first, second).mean().item() == pytest.approx(jensen_shannon(first, second))
        p, q = (x.double().softmax(-1).numpy() for x in (first, second))
        plain = [sum(p[i, c] * np.log(p[i, c] / q[i, c]) for c in range(5)) for i in range(70)]
        assert kl_each(first, second).numpy() == pytest.approx(np.array(plain), abs=1e-9)
        assert agreeing(first, second).tolist() == (p.argmax(1) == q.argmax(1)).tolist()


class TestCopiedErrors:
    def test_a_student_that_repeats_its_teachers_errors_is_named(self):
        found = told(trial(copied=0.4))
        (warning,) = texts(found, "warning")
        assert "copies its teacher's errors" in warning
        taught = found["figures"]["taught"]
        assert taught["errors"]["low"] > 0.2
        assert taught["caught_errors"] > taught["learnt_rights"]
        assert taught["caught_errors"] == round(taught["repeated"]["mean"] * 1000)
        student = found["figures"]["models"]["student"]
        assert student["copied_errors"] > 0.4
        assert student["same_wrong_class"] > 0.7

    def test_its_clean_twin_is_not(self):
        found = told(trial())
        assert texts(found, "warning") == []
        assert any("not shown to copy" in text for text in texts(found, "fine"))
        assert any("not shown that any" in text for text in texts(found, "notice"))

    def test_thirty_clean_students_raise_at_most_three_alarms(self):
        claims = 0
        for seed in range(30):
            errors = told(trial(seed=seed, total=600, closed=True))["figures"]["taught"]["errors"]
            claims += errors["low"] > 0
        assert claims <= 3  # one-sided at 2.5 %

    def test_a_teacher_without_errors_cannot_be_copied(self):
        found = told(trial(teacher_errors=0.0))
        assert any("no error on test" in text for text in texts(found, "fine"))
        assert found["figures"]["taught"]["errors"] is None
        assert found["figures"]["taught"]["repeated"]["mean"] == 0

    def test_errors_that_came_with_more_right_answers_are_no_warning(self):
        usual = trial(copied=0.4)
        baseline = usual.answers("baseline")
        worse = mistaken(baseline.targets, 0.7, 99)
        usual.know("baseline", "test", answers(worse, baseline))
        found = told(usual)
        assert texts(found, "warning") == []
        assert any("copies its teacher's errors" in text for text in texts(found, "notice"))


class TestAgreement:
    def test_what_was_taught_is_the_difference_to_the_student_alone(self):
        found = told(trial(copied=0.4))
        taught, models = found["figures"]["taught"], found["figures"]["models"]
        mean = models["student"]["agreement"]["mean"] - models["baseline"]["agreement"]["mean"]
        assert taught["agreement"]["mean"] == pytest.approx(mean)
        assert taught["kl"]["high"] < 0
        assert any("of the agreement were taught" in text for text in texts(found, "fine"))

    def test_a_student_that_is_less_like_its_teacher_was_taught_nothing(self):
        usual = trial()
        student = usual.answers("student")
        usual.know("student", "test", answers(mistaken(student.targets, 0.5, 7), student))
        found = told(usual)
        assert found["figures"]["taught"]["agreement"]["high"] < 0
        assert any("not shown that any" in text for text in texts(found, "notice"))

    def test_with_one_training_it_says_that_luck_is_not_in_it(self):
        found = told(trial(copied=0.4))
        assert found["figures"]["taught"]["seeds"] is None
        assert any("its luck is not in this" in text for text in texts(found, "fine"))

    def test_what_does_not_hold_over_several_trainings_is_not_claimed(self):
        usual = trial(copied=0.4)
        truth, like = usual.answers("student").targets, usual.answers("student")
        others = [answers(mistaken(truth, 0.2, 500 + seed), like) for seed in range(4)]
        with_luck = replace(usual, seeds={"student": others[:2], "baseline": others[2:]})
        for role in with_luck.roles:
            with_luck.know(role, "test", usual.answers(role))
        found = told(with_luck)
        seeds = found["figures"]["taught"]["seeds"]
        assert seeds["count"] == 3
        assert seeds["agreement"]["low"] < 0 < found["figures"]["taught"]["agreement"]["low"]
        assert any("not shown that any" in text for text in texts(found, "notice"))
        assert texts(found, "warning") == []

    def test_what_holds_over_several_trainings_is(self):
        runs = [trial(copied=0.4, seed=seed) for seed in range(4)]
        teacher = runs[0].answers("teacher")
        copies = [teacher.logits.argmax(-1) != teacher.targets]
        said = []
        for seed in range(3):
            own = mistaken(teacher.targets, 0.2, 900 + seed)
            dice = torch.rand(len(own), generator=generator(seed, "copy")) < 0.5
            said.append(torch.where(copies[0] & dice, teacher.logits.argmax(-1), own))
        students = [answers(one, teacher) for one in said]
        alone = [answers(mistaken(teacher.targets, 0.2, 700 + seed), teacher) for seed in range(3)]
        several = replace(runs[0], seeds={"student": students[1:], "baseline": alone[1:]})
        for role, found in {
            "teacher": teacher,
            "student": students[0],
            "baseline": alone[0],
        }.items():
            several.know(role, "test", found)
        found = told(several)
        assert found["figures"]["taught"]["seeds"]["errors"]["low"] > 0
        (warning,) = texts(found, "warning")
        assert "over 3 trainings" in warning

    def test_without_a_student_alone_it_says_that_nothing_can_be_said(self):
        whole = subjects()
        models = {role: whole.models[role] for role in ("teacher", "student")}
        found = told(replace(whole, models=models))
        assert "cannot be said" in found["findings"][0]["text"]
        assert found["figures"]["taught"] is None

    def test_a_class_that_is_ruled_out_leaves_the_divergence_open(self):
        usual = trial()
        student = usual.answers("student")
        ruled = student.logits.clone()
        ruled[:, 3] = -torch.inf
        usual.know("student", "test", replace(student, logits=ruled))
        found = told(usual)
        assert found["figures"]["models"]["student"]["kl"] is None
        assert found["figures"]["taught"]["kl"] is None
        assert "without bound" in as_html(Fidelity().blocks(found["figures"]))


class TestFeatures:
    def test_each_learner_has_its_alignment_with_the_teacher(self):
        figures = told(subjects())["figures"]
        features = figures["features"]
        assert set(features["models"]) == {"student", "baseline", "control"}
        assert features["models"]["student"]["width"] == 36
        assert features["teacher_width"] == 72
        assert features["taught"]["low"] <= features["taught"]["high"]
        assert "unbiased CKA" in as_markdown(Fidelity().blocks(figures))

    def test_a_student_with_its_teachers_features_is_seen(self):
        whole = subjects()
        models = {**whole.models, "student": whole.models["teacher"]}
        found = told(replace(whole, models=models))
        student = found["figures"]["features"]["models"]["student"]
        assert student["unbiased_cka"] == pytest.approx(1)
        assert any("more like the teacher's" in text for text in texts(found, "fine"))

    def test_models_that_only_answer_have_none(self):
        whole = subjects()
        shut = {
            role: (lambda model: lambda batch: model(batch))(m) for role, m in whole.models.items()
        }
        assert told(replace(whole, models=shut))["figures"]["features"] is None


@pytest.mark.parametrize("options", [{"most": 10}, {"parts": 2}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(RecipeError, match=next(iter(options))):
        Fidelity(**options)
