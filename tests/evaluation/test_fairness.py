"""Gaps between groups, against fairlearn, plain loops and Newcombe's own table."""

import warnings

import numpy as np
import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.fairness.intervals import (
    contrasts,
    gap_change,
    gap_interval,
    newcombe_independent,
    resampled,
)
from tutelage.evaluation.fairness.rates import (
    MEASURES,
    accuracy_gap,
    demographic_parity_difference,
    equalised_odds_difference,
    gap,
    rates,
    spread,
    support,
    tally,
    worst_group,
)


def drawn(seed, total=300, classes=2, groups=3):
    """Logits, truths and groups at random."""
    dice = generator(seed, "fairness")
    logits = torch.randn(total, classes, generator=dice)
    targets = torch.randint(classes, (total,), generator=dice)
    return logits, targets, torch.randint(groups, (total,), generator=dice)


def theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("fairlearn.metrics")


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_equal_fairlearn(seed):
    metrics = theirs()
    logits, targets, groups = drawn(seed)
    counted, said = tally(logits, targets, groups), logits.argmax(-1).numpy()
    given = {"sensitive_features": groups.numpy()}
    truth = targets.numpy()
    ours = demographic_parity_difference(counted)
    assert ours == pytest.approx(
        metrics.demographic_parity_difference(truth, said, **given), abs=1e-6
    )
    ours = equalised_odds_difference(counted)
    assert ours == pytest.approx(metrics.equalized_odds_difference(truth, said, **given), abs=1e-6)
    functions = {
        "accuracy": lambda y, p: float((y == p).mean()),
        "selection": metrics.selection_rate,
        "tpr": metrics.true_positive_rate,
        "fpr": metrics.false_positive_rate,
    }
    frame = metrics.MetricFrame(metrics=functions, y_true=truth, y_pred=said, **given)
    for name in ("selection", "tpr", "fpr"):
        found = getattr(counted, name)[:, 1].tolist()
        assert found == pytest.approx(frame.by_group[name].tolist(), abs=1e-6)
    assert counted.accuracy.tolist() == pytest.approx(frame.by_group["accuracy"].tolist(), abs=1e-6)
    assert accuracy_gap(counted) == pytest.approx(frame.difference()["accuracy"], abs=1e-6)
    place, worst = worst_group(counted)
    assert worst == pytest.approx(frame.group_min()["accuracy"], abs=1e-6)
    assert place == int(frame.by_group["accuracy"].argmin())


@pytest.mark.parametrize("seed", range(3))
def test_more_classes_are_the_worst_of_one_against_the_rest(seed):
    metrics = theirs()
    logits, targets, groups = drawn(seed, 600, classes=4)
    counted, said = tally(logits, targets, groups), logits.argmax(-1)
    parity, odds = [], []
    for c in range(4):
        given = {"sensitive_features": groups.numpy()}
        pair = (targets == c).long().numpy(), (said == c).long().numpy()
        parity.append(metrics.demographic_parity_difference(*pair, **given))
        odds.append(metrics.equalized_odds_difference(*pair, **given))
    assert demographic_parity_difference(counted) == pytest.approx(max(parity), abs=1e-6)
    assert equalised_odds_difference(counted) == pytest.approx(max(odds), abs=1e-6)


def test_both_of_two_classes_give_the_same_differences():
    logits, targets, groups = drawn(3)
    turned = tally(logits.flip(1), 1 - targets, groups)
    plain = tally(logits, targets, groups)
    for measure in MEASURES:
        assert gap(plain, measure) == pytest.approx(gap(turned, measure), abs=1e-12)


def test_every_rate_equals_a_plain_loop():
    logits, targets, groups = drawn(1, 400, classes=5, groups=4)
    counted, said = tally(logits, targets, groups), logits.argmax(-1)
    for g in range(4):
        mine = (groups == g).numpy()
        y, p = targets.numpy()[mine], said.numpy()[mine]
        assert counted.accuracy[g].item() == pytest.approx(np.mean(y == p), abs=1e-12)
        for c in range(5):
            assert counted.selection[g, c].item() == pytest.approx(np.mean(p == c), abs=1e-12)
            assert counted.tpr[g, c].item() == pytest.approx(np.mean(p[y == c] == c), abs=1e-12)
            assert counted.fpr[g, c].item() == pytest.approx(np.mean(p[y != c] == c), abs=1e-12)
    odds = torch.cat([counted.tpr, counted.fpr], 1)
    assert torch.equal(rates(counted, "odds"), odds)
    assert support(counted, "odds").sum() == 5 * 400


def test_empty_groups_and_absent_classes_are_left_out():
    said = torch.eye(2)[[1, 0, 1, 1, 0]]
    truth = torch.tensor([1, 1, 1, 1, 0])
    counted = tally(said, truth, torch.tensor([0, 0, 2, 2, -1]), 3)
    assert counted.examples.tolist() == [2, 0, 2]
    assert counted.accuracy[1].isnan()
    assert counted.fpr[:, 1].isnan().all()  # nobody of a known group is of class 0
    assert equalised_odds_difference(counted) == 0.5
    assert demographic_parity_difference(counted) == 0.5
    assert worst_group(counted) == (0, 0.5)
    lonely = tally(said, truth, torch.tensor([0, 0, 0, -1, -1]), 3)
    assert accuracy_gap(lonely) is None
    assert gap(counted, "odds", least=3) is None


def test_what_is_no_group_or_no_answer_is_refused():
    logits, targets, groups = drawn(0)
    with pytest.raises(DataError, match="one whole number for each"):
        tally(logits, targets, groups[:-1])
    with pytest.raises(DataError, match="no example is of a known group"):
        tally(logits, targets, torch.full_like(groups, -1))
    with pytest.raises(DataError, match="there is a group 2, and 2 groups"):
        tally(logits, targets, groups, 2)
    with pytest.raises(DataError, match="NaN or infinite"):
        tally(logits.clone().fill_(torch.nan), targets, groups)
    with pytest.raises(DataError, match="no measure 'luck'"):
        rates(tally(logits, targets, groups), "luck")


def test_spread_needs_two_known_groups():
    nan = float("nan")
    found = spread(torch.tensor([[0.2, nan, nan], [nan, 0.4, nan], [0.7, nan, nan]]))
    assert found[0].item() == pytest.approx(0.5)
    assert found[1:].isnan().all()


@pytest.mark.parametrize(
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_newcombe_of_independent_shares_equals_his_table(first, second, low, high):
    interval = newcombe_independent(*first, *second)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)
    turned = newcombe_independent(*second, *first)
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low))


class TestResampling:
    def test_draws_keep_group_sizes_and_pair_the_models(self):
        logits, targets, groups = drawn(0, 200, classes=3)
        said = logits.argmax(-1)
        one, other = resampled([said, said], targets, groups, 3, 3, seed=0, resamples=50)
        assert torch.equal(one.right, other.right)
        assert torch.equal(one.examples, tally(logits, targets, groups).examples.expand(50, 3))
        assert not torch.equal(one.true[0], one.true[1])

    def test_its_variance_is_that_of_a_share(self):
        logits, targets, groups = drawn(0, 400)
        counted = tally(logits, targets, groups)
        [draws] = resampled([logits.argmax(-1)], targets, groups, 3, 2, seed=0, resamples=4000)
        p, n = counted.accuracy, counted.examples
        assert torch.allclose(draws.accuracy.var(0), p * (1 - p) / n, rtol=0.1)
        assert torch.allclose(draws.accuracy.mean(0), p, atol=0.005)

    def test_equal_seeds_give_equal_draws_and_others_do_not(self):
        logits, targets, groups = drawn(0)
        said = [logits.argmax(-1)]
        a, b, c = (
            resampled(said, targets, groups, 3, 2, seed=seed, resamples=20)[0].right
            for seed in (1, 1, 2)
        )
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def pair(seed, *, right=(0.95, 0.80), bias=0.0, total=600, classes=2, groups=2, resamples=200):
    """A teacher's and a student's contrasts; the student errs more in group 1 by ``bias``."""
    dice = generator(seed, "pair")
    targets = torch.arange(total) % classes
    of = torch.randint(groups, (total,), generator=dice)
    said = []
    for who, share in enumerate(right):
        wrong = torch.rand(total, generator=dice) >= share - (bias * (of == 1) if who else 0)
        other = torch.randint(1, max(classes, 2), (total,), generator=dice)
        said.append(torch.where(wrong, (targets + other) % classes, targets))
    draws = resampled(said, targets, of, groups, classes, seed=seed, resamples=resamples)
    counted = [tally(torch.eye(classes)[each], targets, of, groups) for each in said]
    return counted, draws


def change(seed, measure="odds", **options):
    counted, draws = pair(seed, **options)
    teacher, student = (
        contrasts(c, d, measure, least=5) for c, d in zip(counted, draws, strict=True)
    )
    return gap_change(student, teacher)


@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (2, 5), (6, 4)])
def test_a_less_exact_student_that_treats_groups_alike_is_seldom_flagged(shape):
    # The plain bootstrap of a largest difference flags far more: it is biased upwards.
    classes, groups = shape
    flagged = sum(
        change(seed, classes=classes, groups=groups, total=400).low > 0 for seed in range(60)
    )
    assert flagged <= 4  # 1.5 are expected of 60 at 95 %, half of them above


def test_a_student_that_is_worse_in_one_group_is_flagged():
    found = [change(seed, bias=0.25) for seed in range(20)]
    assert sum(one.low > 0 for one in found) >= 19
    assert all(one.low <= one.mean <= one.high for one in found)
    assert all(change(seed, "accuracy", bias=0.25).low > 0 for seed in range(5))


def test_ranges_hold_the_true_gap_as_often_as_they_say():
    held, narrow = 0, 0
    for seed in range(60):
        counted, draws = pair(seed, bias=0.2)
        of = contrasts(counted[1], draws[1], "odds")
        interval = gap_interval(of)
        held += interval.low <= 0.2 <= interval.high
        narrow += change(seed, bias=0.2).low <= 0.2 <= change(seed, bias=0.2).high
    assert held >= 56
    assert narrow >= 56


def test_a_gap_interval_holds_its_own_figure_and_equals_the_difference():
    counted, draws = pair(0, classes=4, groups=3)
    for measure in MEASURES:
        of, against = (contrasts(c, d, measure) for c, d in zip(counted, draws, strict=True))
        interval, back = gap_change(of, against), gap_change(against, of)
        assert interval.mean == pytest.approx(gap(counted[0], measure) - gap(counted[1], measure))
        assert (back.low, back.high) == pytest.approx((-interval.high, -interval.low))
        single = gap_interval(of)
        assert single.mean == pytest.approx(gap(counted[0], measure))
        assert 0 <= single.low <= single.mean <= single.high <= 1


def test_a_model_against_itself_has_no_change_and_few_examples_prove_nothing():
    counted, draws = pair(0)
    same = contrasts(counted[0], draws[0], "odds")
    assert gap_change(same, same).mean == 0
    assert not gap_change(same, same).excludes_zero
    few = torch.tensor([0, 0, 1, 1])
    said, truth = torch.tensor([1, 1, 0, 0]), torch.ones(4, dtype=torch.long)
    right = torch.ones(4, dtype=torch.long)
    counted = [tally(torch.eye(2)[each], truth, few) for each in (right, said)]
    draws = resampled([right, said], truth, few, 2, 2, seed=0, resamples=200)
    one, two = (contrasts(c, d, "odds") for c, d in zip(counted, draws, strict=True))
    interval = gap_change(two, one)  # all draws are alike, and still it is not sure
    assert interval.mean == 1
    assert interval.low < 0.5
    assert contrasts(counted[0], draws[0], "odds", least=5) is None


def test_draws_of_other_groups_are_not_compared():
    one, two = pair(0), pair(0, groups=3)
    with pytest.raises(DataError, match="same examples"):
        gap_change(contrasts(one[0][0], one[1][0], "odds"), contrasts(two[0][0], two[1][0], "odds"))
