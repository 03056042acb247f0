"""Metrics against plain loops in numpy, and on the edges where such code usually breaks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.errors import DataError
from tutelage.evaluation import (
    accuracy,
    agreement,
    brier,
    collapsed,
    ece,
    jensen_shannon,
    negative_flip_rate,
    nll,
    per_class_accuracy,
    positive_flip_rate,
    predictive_kl,
    reliability,
    top_k,
)


def probabilities(logits):
    rows = []
    for row in logits.double().numpy():
        shifted = np.exp(row - row.max())
        rows.append(shifted / shifted.sum())
    return np.array(rows)


def case(seed, total=60, classes=5, scale=3.0):
    dice = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(total, classes, generator=dice)
    other = logits + torch.randn(total, classes, generator=dice)
    return logits, other, torch.randint(classes, (total,), generator=dice)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 70), st.integers(2, 6))
def test_metrics_equal_plain_loops(seed, total, classes):
    logits, _, targets = case(seed, total, classes)
    p, y = probabilities(logits), targets.numpy()
    hits = [float(np.argmax(p[i]) == y[i]) for i in range(total)]
    assert accuracy(logits, targets) == pytest.approx(np.mean(hits), abs=1e-12)
    assert nll(logits, targets) == pytest.approx(
        np.mean([-math.log(p[i, y[i]]) for i in range(total)]), abs=1e-9
    )
    truth = np.eye(classes)[y]
    squares = [sum((p[i, c] - truth[i, c]) ** 2 for c in range(classes)) for i in range(total)]
    assert brier(logits, targets) == pytest.approx(np.mean(squares), abs=1e-12)
    best = [float(y[i] in np.argsort(-p[i])[:2]) for i in range(total)]
    assert top_k(logits, targets, 2) == pytest.approx(np.mean(best), abs=1e-12)
    for c, share in enumerate(per_class_accuracy(logits, targets).tolist()):
        own = [hits[i] for i in range(total) if y[i] == c]
        assert share == pytest.approx(np.mean(own), abs=1e-12) if own else math.isnan(share)


@pytest.mark.parametrize("bins", [1, 2, 15])
@pytest.mark.parametrize("seed", range(5))
def test_ece_equals_a_plain_loop_over_bins(seed, bins):
    logits, _, targets = case(seed, total=200, scale=1.5)
    p, y = probabilities(logits), targets.numpy()
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(y)) if b / bins < p[i].max() <= (b + 1) / bins]
        if inside:
            sure = np.mean([p[i].max() for i in inside])
            hits = np.mean([p[i].argmax() == y[i] for i in inside])
            total += len(inside) / len(y) * abs(sure - hits)
    assert ece(logits, targets, bins=bins) == pytest.approx(total, abs=1e-12)


def test_bins_of_equal_mass_hold_equal_numbers_of_examples():
    logits, _, targets = case(3, total=150, scale=1.0)
    counts = reliability(logits, targets, bins=15, equal_mass=True).count
    assert counts.tolist() == [10.0] * 15


@pytest.mark.parametrize("equal_mass", [False, True])
def test_ece_does_not_depend_on_the_order_of_examples_even_with_ties(equal_mass):
    logits, _, targets = case(4, total=90)
    logits = logits[:7].repeat(13, 1)[:90]  # many equal confidences
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    assert ece(logits, targets, bins=4, equal_mass=equal_mass) == pytest.approx(
        ece(logits[order], targets[order], bins=4, equal_mass=equal_mass), abs=1e-12
    )


def test_a_model_that_says_the_same_about_everything_is_not_right_by_luck():
    logits, targets = torch.zeros(8, 4), torch.arange(8) % 4
    assert accuracy(logits, targets) == 0.25
    assert top_k(logits, targets, 2) == 0.5


def test_huge_logits_lose_no_precision_and_do_not_overflow():
    logits = torch.tensor([[3e4, 0.0], [0.0, 3e4]])
    assert nll(logits, torch.tensor([0, 0])) == pytest.approx(1.5e4)
    assert predictive_kl(logits, logits) == 0


def test_fidelity_equals_plain_loops():
    for seed in range(5):
        teacher, student, targets = case(seed)
        p, q, y = probabilities(teacher), probabilities(student), targets.numpy()
        total = len(y)
        same = [np.argmax(p[i]) == np.argmax(q[i]) for i in range(total)]
        assert agreement(teacher, student) == pytest.approx(np.mean(same))
        kl = [
            sum(a * math.log(a / b) for a, b in zip(p[i], q[i], strict=True)) for i in range(total)
        ]
        assert predictive_kl(teacher, student) == pytest.approx(np.mean(kl), abs=1e-9)
        middle = (p + q) / 2
        js = [
            sum(
                a * math.log(a / m) + b * math.log(b / m)
                for a, b, m in zip(p[i], q[i], middle[i], strict=True)
            )
            for i in range(total)
        ]
        assert jensen_shannon(teacher, student) == pytest.approx(np.mean(js) / 2, abs=1e-9)
        before = [np.argmax(p[i]) == y[i] for i in range(total)]
        after = [np.argmax(q[i]) == y[i] for i in range(total)]
        lost = [b and not a for b, a in zip(before, after, strict=True)]
        won = [a and not b for b, a in zip(before, after, strict=True)]
        assert negative_flip_rate(teacher, student, targets) == pytest.approx(np.mean(lost))
        assert positive_flip_rate(teacher, student, targets) == pytest.approx(np.mean(won))


def test_kl_is_the_teachers_divergence_from_the_student_not_the_reverse():
    sure, open_minded = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert predictive_kl(sure, open_minded) < math.log(2) < predictive_kl(open_minded, sure)


def test_a_class_the_teacher_excludes_costs_nothing_and_one_the_student_excludes_everything():
    never = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert predictive_kl(never, torch.zeros(1, 3)) == pytest.approx(math.log(1.5))
    assert predictive_kl(torch.zeros(1, 3), never) == math.inf


@pytest.mark.parametrize("metric", [accuracy, nll, brier, ece, per_class_accuracy])
@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, -1, -1]), "2 of 3 examples are unlabelled"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), r"logits of shape \(3, 2\) and targets of shape"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), "a target 2, and the logits have 2 classes"),
        (torch.zeros(0, 2), torch.tensor([], dtype=torch.long), "no examples"),
        (torch.zeros(2, 2), torch.full((2, 2), 0.5), "targets of shape"),
        (torch.zeros(2, 2), torch.zeros(2), "class numbers of int64 are needed"),
        (torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), "1 of 1 examples are NaN or infinite"),
        (torch.tensor([[math.inf, 0.0]]), torch.tensor([0]), "NaN or infinite"),
    ],
)
def test_input_that_has_no_metric_is_refused_in_one_line(metric, logits, targets, message):
    with pytest.raises(DataError, match=message) as caught:
        metric(logits, targets)
    assert "\n" not in str(caught.value)


def test_models_on_different_examples_are_not_compared():
    with pytest.raises(DataError, match="on the same examples and classes"):
        agreement(torch.zeros(3, 2), torch.zeros(4, 2))


class TestCollapse:
    names = ("a", "b", "c")

    def test_a_constant_answer_is_a_collapse(self):
        logits = torch.tensor([0.0, 2.0, 1.0]).repeat(300, 1)
        found = collapsed(logits, torch.arange(300) % 3, self.names)
        assert found is not None
        assert "'b' to 100.0 %" in found

    def test_guessing_is_a_collapse(self):
        logits = torch.randn(600, 3, generator=torch.Generator().manual_seed(1))
        found = collapsed(logits, torch.arange(600) % 3, self.names)
        assert found is not None
        assert "cannot be told from guessing" in found

    def test_nan_is_a_collapse(self):
        found = collapsed(torch.full((4, 3), math.nan), torch.arange(4) % 3, self.names)
        assert found == "its answers to 4 of 4 examples are NaN or infinite"

    def test_a_weak_student_is_none(self):
        targets = torch.arange(600) % 3
        logits = torch.randn(600, 3, generator=torch.Generator().manual_seed(2))
        logits[torch.arange(600), targets] += 0.4
        assert collapsed(logits, targets, self.names) is None

    def test_a_student_that_finds_a_rare_class_is_none_though_hardly_better_than_always_saying_no(
        self,
    ):
        targets = torch.zeros(1000, dtype=torch.long)
        targets[:20] = 1
        logits = torch.tensor([1.0, 0.0, -9.0]).repeat(1000, 1)
        logits[:12, 1] = 2.0  # finds 12 of 20
        logits[20:27, 1] = 2.0  # 7 false alarms
        assert collapsed(logits, targets, self.names) is None

    def test_answers_unrelated_to_a_frequent_truth_are_a_collapse_though_often_right(self):
        dice = torch.Generator().manual_seed(3)
        targets = (torch.rand(1000, generator=dice) < 0.1).long()
        logits = torch.zeros(1000, 3)
        logits[torch.rand(1000, generator=dice) < 0.1, 1] = 1.0
        assert accuracy(logits, targets) > 0.75
        assert "guessing" in str(collapsed(logits, targets, self.names))

    def test_false_alarms_on_guessing_level_are_rare(self):
        caught = 0
        for seed in range(200):
            dice = torch.Generator().manual_seed(seed)
            logits = torch.randn(300, 3, generator=dice)
            targets = torch.randint(3, (300,), generator=dice)
            caught += collapsed(logits, targets, self.names) is not None
        assert caught >= 198  # 99.9 % of guessers are told to be guessers
