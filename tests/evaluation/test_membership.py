"""Membership inference: attacks against plain loops, leaks that were planted, and clean twins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backdoor_samples import bars, trained
from sklearn.metrics import roc_auc_score

from tutelage.core.errors import DataError, RecipeError
from tutelage.data import TensorSet
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Membership
from tutelage.evaluation.predict import predict
from tutelage.evaluation.privacy import loss_scores, matched, ratio_scores, ratios
from tutelage.evaluation.privacy.attacks import by_class
from tutelage.evaluation.privacy.audit import excess
from tutelage.evaluation.subjects import Subjects


def dice(seed):
    return torch.Generator().manual_seed(seed)


class TestAttacks:
    def test_the_loss_is_that_of_numpy(self):
        z, y = torch.randn(20, 5, generator=dice(0)), torch.randint(5, (20,), generator=dice(1))
        x = z.double().numpy()
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        assert loss_scores(z, y).exp().numpy() == pytest.approx(p[range(20), y], abs=1e-9)

    @pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
    def test_the_ratio_is_the_papers_formula(self, a):
        p, out = torch.rand(30, generator=dice(0)), torch.rand(3, 30, generator=dice(1))
        mean = ((1 + a) * out.double().mean(0) + (1 - a)) / 2
        expected = (p.double() / mean).numpy()
        assert ratios(p.log(), out.log(), a).exp().numpy() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("gamma", [1.0, 1.5])
    def test_the_score_counts_whom_an_example_stands_out_from(self, gamma):
        x, z = torch.randn(15, generator=dice(0)), torch.randn(40, generator=dice(1))
        x[0] = z[3]  # equal is not more
        table = np.exp(x.double().numpy())[:, None] / np.exp(z.double().numpy())[None]
        found = ratio_scores(x, z, gamma)[1:].numpy()
        assert found == pytest.approx((table > gamma).mean(1)[1:], abs=1e-9)

    def test_a_class_without_strangers_gets_the_mean_of_all(self):
        means = by_class(torch.tensor([0.2, 0.6]).log(), torch.tensor([0, 2]), 3).exp()
        assert means.tolist() == pytest.approx([0.2, 0.4, 0.6])

    def test_wrong_input_is_one_line(self):
        with pytest.raises(DataError, match="NaN"):
            loss_scores(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0]))
        with pytest.raises(DataError, match="class numbers"):
            loss_scores(torch.zeros(1, 2), torch.tensor([-1]))
        with pytest.raises(DataError, match="at least one reference"):
            ratios(torch.zeros(3), torch.zeros(0, 3))
        with pytest.raises(DataError, match="above 0"):
            ratio_scores(torch.zeros(2), torch.zeros(0))

    def test_the_excess_is_movers(self):
        one, two = {"mean": 0.7, "low": 0.6, "high": 0.75}, {"mean": 0.5, "low": 0.45, "high": 0.6}
        found = excess(one, two, 0.95)
        assert found["mean"] == pytest.approx(0.2)
        assert found["low"] == pytest.approx(0.2 - (0.1**2 + 0.1**2) ** 0.5)
        assert found["high"] == pytest.approx(0.2 + (0.05**2 + 0.05**2) ** 0.5)


class TestMatching:
    def set_of(self, targets, seed=0):
        targets = torch.tensor(targets)
        ids = torch.arange(len(targets)) + 100 * seed
        return TensorSet(torch.zeros(len(targets), 1), targets, classes=("a", "b", "c"), ids=ids)

    def test_both_have_the_same_class_mix_without_the_unlabelled(self):
        one, two = self.set_of([0] * 9 + [1] + [-1] * 5), self.set_of([0] * 2 + [1] * 8 + [2], 1)
        first, second = matched(one, two, seed=0, most=100)
        assert (
            sorted(one.targets[first].tolist()) == sorted(two.targets[second].tolist()) == [0, 0, 1]
        )

    def test_many_are_thinned_in_proportion(self):
        one, two = self.set_of([0] * 60 + [1] * 30), self.set_of([0] * 60 + [1] * 30, 1)
        first, _ = matched(one, two, seed=0, most=30)
        assert torch.bincount(one.targets[first]).tolist() == [20, 10]

    def test_no_class_in_common_is_said(self):
        with pytest.raises(DataError, match="too few"):
            matched(self.set_of([0, 0]), self.set_of([1, 1], 1), seed=0, most=9)


def noisy(total, seed):
    """Bars of which every fourth has a random label: what is right about them is only learned."""
    examples = bars(total, seed, noise=0.3)
    targets = examples.targets.clone()
    wrong = torch.rand(total, generator=dice(seed)) < 0.25
    targets[wrong] = torch.randint(8, (int(wrong.sum()),), generator=dice(seed + 1))
    return examples.with_targets(targets)


def trial(**changes):
    """A teacher that knows its 250 examples by heart, and a student of it on others' images."""
    taught, train = noisy(250, 40), noisy(600, 41)
    teacher = trained(taught, 1, width=16, steps=160)
    shown = predict(teacher, train).logits
    usual = {
        "models": {
            "teacher": teacher,
            "student": trained(train, 2, width=4, steps=60, answers=shown),
            "baseline": trained(train, 3, width=4, steps=60),
        },
        "test": noisy(400, 42),
        "validation": noisy(400, 43),
        "train": train,
        "taught": taught,
    }
    return Subjects(**{**usual, **changes})


@pytest.fixture(scope="module")
def disjoint():
    return trial()


def found_in(subjects, **options):
    found = examine(subjects, {"membership": Membership(**options)})["membership"]
    assert found["left_out"] is None, found["left_out"]
    return found["findings"], found["figures"]


class TestPart:
    def test_the_teacher_knows_its_own_and_a_student_on_other_images_does_not(self, disjoint):
        told, figures = found_in(disjoint)
        models = figures["sets"]["taught"]["models"]
        teacher, student = (models[role]["loss"]["auc"] for role in ("teacher", "student"))
        assert teacher["low"] > 0.6
        assert student["high"] < teacher["low"] - 0.04
        assert student["low"] <= 0.5 + 0.03
        assert models["teacher"]["loss"]["clear"]
        texts = " ".join(one["text"] for one in told)
        assert "can be recognised in the teacher's answers" in texts
        assert "teacher alone was trained on can be recognised in the student's" not in texts

    def test_an_overfit_student_is_warned_of_and_its_control_is_not(self, disjoint):
        taught = disjoint.taught
        overfit = replace(
            disjoint,
            models={**disjoint.models, "student": trained(taught, 5, width=16, steps=160)},
            train=taught,
        )
        told, figures = found_in(overfit)
        assert told[0]["status"] == "warning"
        assert "chance is 50 %" in told[0]["text"]
        rates = figures["sets"]["train"]["models"]["student"]
        assert rates["loss"]["auc"]["low"] > 0.6
        for attack in figures["control"]["models"]["student"].values():
            assert attack["auc"]["low"] <= 0.5 <= attack["auc"]["high"]
        assert figures["worst"]["auc"]["mean"] == max(r["auc"]["mean"] for r in rates.values())

    def test_the_auc_is_scikit_learns_on_the_same_examples(self, disjoint):
        figures = found_in(disjoint)[1]
        rows = matched(disjoint.taught, disjoint.test, seed=_seed(disjoint), most=2000)
        scores = [
            loss_scores(answers.logits, answers.targets)
            for answers in (
                predict(disjoint.models["teacher"], one.take(some))
                for one, some in zip((disjoint.taught, disjoint.test), rows, strict=True)
            )
        ]
        truth = [1] * len(scores[0]) + [0] * len(scores[1])
        found = figures["sets"]["taught"]["models"]["teacher"]["loss"]["auc"]["mean"]
        assert found == pytest.approx(roc_auc_score(truth, torch.cat(scores)), abs=1e-6)

    def test_of_ten_students_who_never_saw_them_hardly_one_is_accused(self, disjoint):
        alarms = 0
        for seed in range(10):
            strangers = noisy(250, 60 + seed)
            clean = replace(disjoint, train=None, taught=strangers)
            told, _ = found_in(clean)
            alarms += any("can be recognised" in one["text"] for one in told)
        assert alarms <= 1

    def test_references_are_models_that_never_saw_the_set(self, disjoint):
        figures = found_in(disjoint)[1]
        assert figures["sets"]["taught"]["references"] == ["student", "baseline"]
        assert figures["sets"]["train"]["references"] == ["teacher"]
        assert figures["control"]["references"] == ["teacher", "student", "baseline"]

    def test_without_validation_there_is_no_ratio_and_no_control(self, disjoint):
        figures = found_in(replace(disjoint, validation=None))[1]
        assert figures["control"] is None
        assert set(figures["sets"]["taught"]["models"]["student"]) == {"loss"}

    def test_nothing_is_asked_where_members_are_not_known(self, disjoint):
        bare = replace(disjoint, train=None, taught=None)
        assert "not known" in Membership().absent(bare)

    def test_wrong_options_are_one_line(self):
        with pytest.raises(RecipeError, match="most: got 0"):
            Membership(most=0)
        with pytest.raises(RecipeError, match=r"tolerated: got 0\.2"):
            Membership(tolerated=0.2)


def _seed(subjects):
    from tutelage.core.seeds import derive

    return derive(subjects.seed, "membership")
