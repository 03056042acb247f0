"""Accuracy in full: against scikit-learn, for classes, groups and seeds, and what is said of it."""

import numpy as np
import pytest
import torch
from evaluation_samples import answers
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.seeds import generator
from tutelage.data import Groups, TensorSet
from tutelage.evaluation import Predictions, mean_interval, paired_interval, wilson
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Accuracy
from tutelage.evaluation.standing.macro import class_intervals, mean_of, within_top, worst_class
from tutelage.evaluation.standing.several import holm, largest, smallest
from tutelage.evaluation.subjects import Subjects


def trial(student, teacher=None, baseline=None, *, groups=None, seeds=None, **more):
    """Subjects that have answered already; the models behind them are never asked."""
    roles = {"student": student, "teacher": teacher, "baseline": baseline}
    kept = {role: found for role, found in roles.items() if found is not None}
    test = TensorSet(
        torch.zeros(len(student), 3), student.targets, classes=student.classes, ids=student.ids
    )
    made = Subjects(dict.fromkeys(kept, None), test, groups=groups or {}, seeds=seeds or {}, **more)
    for role, found in kept.items():
        made.know(role, "test", found)
    return made


def found(made, part=None):
    return examine(made, {"accuracy": part or Accuracy()})["accuracy"]


def damaged(whole, rows, share, seed=0):
    """Another class is answered for some of these rows."""
    hurt = rows & (torch.rand(len(whole), generator=generator(seed, "damage")) < share)
    logits = whole.logits.clone()
    logits[hurt] = logits[hurt].roll(2, -1)
    return Predictions(logits, whole.targets, whole.ids, whole.classes)


class TestAgainstReferences:
    @pytest.mark.parametrize("seed", range(5))
    def test_top_k_and_macro_are_scikit_learns(self, seed):
        dice = generator(seed, "random logits")
        logits = torch.randn(200, 7, generator=dice)
        targets = torch.randint(7, (200,), generator=dice)
        for k in (1, 3, 5):
            own = within_top(logits, targets, k).double().mean().item()
            expected = top_k_accuracy_score(targets, logits.numpy(), k=k, labels=range(7))
            assert own == pytest.approx(expected, abs=1e-12)
        hits = within_top(logits, targets, 1)
        macro = mean_of(class_intervals(hits, targets, 7))
        expected = balanced_accuracy_score(targets, logits.argmax(1))
        assert macro.mean == pytest.approx(expected, abs=1e-12)

    def test_an_absent_class_counts_for_nothing(self):
        targets = torch.tensor([0, 0, 2, 2])
        hits = torch.tensor([True, False, True, True])
        assert class_intervals(hits, targets, 3)[1] is None
        assert mean_of(class_intervals(hits, targets, 3)).mean == 0.75
        assert worst_class(hits, targets, 3)[0] == 0
        assert mean_of([None]) is None

    def test_one_example_has_a_wide_range(self):
        number, worst = worst_class(torch.tensor([True]), torch.tensor([0]), 1)
        assert (number, worst.mean, worst.high) == (0, 1.0, 1.0)
        assert worst.low == wilson(1, 1).low

    def test_ties_go_to_the_class_of_the_lower_number(self):
        logits = torch.zeros(1, 4)
        assert [bool(within_top(logits, torch.tensor([c]), 2)) for c in range(4)] == [
            True,
            True,
            False,
            False,
        ]

    @pytest.mark.parametrize("seed", range(5))
    def test_holm_is_the_step_down_rule(self, seed):
        p = np.random.default_rng(seed).random(8) ** 3
        order = np.argsort(p)
        expected = np.empty(8)
        expected[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(8, 0, -1), 1))
        assert holm(p.tolist()) == pytest.approx(expected.tolist(), abs=1e-12)
        assert holm([]) == []

    def test_the_macro_range_covers_the_truth(self):
        truth, missed, runs = torch.tensor([0.99, 0.9, 0.6]), 0, 400
        for seed in range(runs):
            dice = generator(seed, "macro")
            targets = torch.arange(180) % 3
            hits = torch.rand(180, generator=dice) < truth[targets]
            macro = mean_of(class_intervals(hits, targets, 3))
            missed += not macro.low <= truth.mean() <= macro.high
        assert missed <= 0.05 * runs + 3 * (0.05 * 0.95 * runs) ** 0.5

    def test_the_largest_of_many_equal_shares_is_not_taken_at_its_word(self):
        below = above = 0
        for seed in range(300):
            hits = (torch.rand(10, 200, generator=generator(seed, "ten")) < 0.1).sum(1).tolist()
            plain, strict = ([wilson(n, 200, level=at) for n in hits] for at in (0.95, 0.995))
            worst, best = largest(plain, strict), smallest(plain, strict)
            assert worst.low <= worst.mean <= worst.high
            below += worst.low > 0.1
            above += worst.high < 0.1
            assert best.mean <= worst.mean
        assert below <= 300 * 0.025 + 7
        assert above == 0

    @pytest.mark.parametrize("wrong", [[0.5, 1.2], [-0.1], [float("nan")]])
    def test_what_is_no_probability_is_refused(self, wrong):
        with pytest.raises(DataError, match="probabilities from 0 to 1"):
            holm(wrong)


class TestPart:
    def test_every_share_is_there_for_every_model(self):
        three = ("a", "b", "c")
        few = found(trial(answers(0.9, classes=three), answers(0.9, seed=1, classes=three)))
        assert set(few["figures"]["top"]) == {"1"}  # of three classes the likeliest three hold all
        whole = found(trial(answers(0.9), answers(0.95), answers(0.8)))["figures"]
        assert set(whole["top"]) == {"1", "3"}
        for shares in whole["top"].values():
            assert set(shares) == {"teacher", "student", "baseline"}
        assert {(t["against"], t["k"]) for t in whole["tests"]} == {
            ("teacher", 1), ("teacher", 3), ("baseline", 1), ("baseline", 3)
        }  # fmt: skip

    def test_seeds_are_put_together(self):
        student, alone = ([answers(s, seed=i) for i, s in enumerate(shares)] for shares in
                          ((0.9, 0.91, 0.92), (0.8, 0.82, 0.81)))  # fmt: skip
        made = trial(
            student[0],
            answers(0.95),
            alone[0],
            seeds={"student": student[1:], "baseline": alone[1:]},
        )
        seeds = found(made)["figures"]["seeds"]
        own, other = (
            [(e.logits.argmax(1) == e.targets).double().mean().item() for e in runs]
            for runs in (student, alone)
        )
        expected = mean_interval(own)
        assert seeds["student"]["top_1"]["values"] == pytest.approx(own)
        assert seeds["student"]["top_1"]["low"] == pytest.approx(expected.low)
        assert seeds["lead"]["top_1"]["mean"] == pytest.approx(paired_interval(own, other).mean)

    def test_a_class_that_teaching_cost_is_named(self):
        alone = answers(0.9, seed=3, total=2000)
        student = damaged(answers(0.9, seed=4, total=2000), alone.targets == 1, 0.4)
        told = found(trial(student, answers(0.9, seed=5, total=2000), alone))["findings"]
        assert told[0]["status"] == "warning"
        assert "The student alone is better in coat (−" in told[0]["text"]
        for other in ("shirt", "boot"):
            assert f"{other} (−" not in told[0]["text"]

    def test_clean_twins_raise_no_alarm(self):
        alarms = 0
        for run in range(20):
            each = [answers(0.9, seed=100 + 3 * run + i) for i in range(3)]
            told = found(trial(*each))["findings"]
            alarms += any(one["status"] == "warning" for one in told)
        assert alarms <= 2

    def test_a_group_that_lost_is_named_and_its_clean_twin_is_not(self):
        teacher = answers(0.92, seed=1, total=2000)
        old = torch.rand(2000, generator=generator(0, "age")) < 0.3
        age = {"age": Groups("age", ("young", "old"), teacher.ids, old.long())}
        clean = answers(0.92, seed=2, total=2000)
        said = found(trial(damaged(clean, old, 0.2), teacher, groups=age))["findings"]
        assert any("By age, accuracy was lost" in one["text"] and "old (−" in one["text"]
                   for one in said)  # fmt: skip
        assert not any("By age" in one["text"] for one in
                       found(trial(clean, teacher, groups=age))["findings"])  # fmt: skip

    def test_nan_answers_are_refused_in_words(self):
        whole = answers(0.9)
        broken = Predictions(whole.logits * torch.nan, whole.targets, whole.ids, whole.classes)
        assert "NaN or infinite" in found(trial(broken, whole))["left_out"]

    @pytest.mark.parametrize("top", [(3,), (0, 1)])
    def test_wrong_options_are_refused(self, top):
        with pytest.raises(RecipeError, match="give whole numbers from 1 on"):
            Accuracy(top=top)
