"""Every statistic against one that somebody else wrote, or that is written another way here."""

import math

import numpy as np
import pytest
import torch

from tutelage.evaluation.metrics import ece
from tutelage.monitoring import two_samples as two
from tutelage.monitoring.columns import columns_of, entropy, probabilities
from tutelage.monitoring.family import KS, MMD, PSI, Family
from tutelage.monitoring.levels import level_of, rate_of_rule
from tutelage.monitoring.rightness import Rightness, calibration_error

DICE = np.random.default_rng(5)


@pytest.mark.parametrize("decimals", [8, 1])
def test_kolmogorov_smirnov_is_scipys(decimals):
    stats = pytest.importorskip("scipy.stats")
    for shift in (0.0, 0.3, 5.0):
        first = DICE.normal(size=70).round(decimals)
        second = (DICE.normal(size=200) + shift).round(decimals)
        expected = stats.ks_2samp(first, second).statistic
        assert two.kolmogorov_smirnov(first, second) == pytest.approx(expected)


def test_chi_square_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    first, second = np.array([12, 40, 3, 9]), np.array([100, 210, 40, 90])
    expected = stats.chi2_contingency(np.stack([first, second]), correction=False)[0]
    assert float(two.chi_square(first, second)) == pytest.approx(expected)
    empty = two.chi_square(np.append(first, 0), np.append(second, 0))
    assert float(empty) == pytest.approx(expected)


def test_stability_index_is_two_divergences():
    stats = pytest.importorskip("scipy.stats")
    first, second = np.array([5, 0, 30]), np.array([50, 7, 80])
    p, q = first + 0.5, second + 0.5
    expected = stats.entropy(p, q) + stats.entropy(q, p)
    assert float(two.stability_index(first, second)) == pytest.approx(expected)


def test_bins_hold_equally_many_and_ties_are_one():
    values = np.arange(1000)
    counts = np.bincount(np.searchsorted(two.bin_edges(values), values, "left"))
    assert len(counts) == 10
    assert counts.min() >= 99
    assert len(two.bin_edges(np.zeros(50))) == 1


def test_mean_discrepancy_is_the_sum_over_pairs_and_its_features_are_near():
    x, y = DICE.normal(size=(30, 3)), DICE.normal(size=(40, 3)) + 0.5

    def kernel(a, b):
        return math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * 1.5**2))

    def mean(left, right):
        return sum(kernel(a, b) for a in left for b in right) / (len(left) * len(right))

    expected = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert two.mean_discrepancy(x, y, 1.5) == pytest.approx(expected)
    felt = two.waves(3, 1.5, 4096)
    near = ((two.waved(x, felt).mean(0) - two.waved(y, felt).mean(0)) ** 2).sum()
    assert near == pytest.approx(expected, rel=0.1)


def test_the_bandwidth_is_the_median_distance():
    distance = pytest.importorskip("scipy.spatial.distance")
    x = DICE.normal(size=(60, 4))
    assert two.median_bandwidth(x) == pytest.approx(np.median(distance.pdist(x)))
    assert two.median_bandwidth(np.zeros((5, 2))) == 1.0


def test_entropy_and_probabilities_are_scipys():
    special, stats = pytest.importorskip("scipy.special"), pytest.importorskip("scipy.stats")
    logits = DICE.normal(size=(20, 4)) * 30
    assert np.allclose(probabilities(logits), special.softmax(logits, 1))
    assert np.allclose(
        entropy(probabilities(logits)), stats.entropy(special.softmax(logits, 1), axis=1)
    )


def test_calibration_error_is_the_reports():
    logits = torch.from_numpy(DICE.normal(size=(300, 4)) * 2)
    targets = torch.from_numpy(DICE.integers(0, 4, 300))
    shares = probabilities(logits.numpy())
    hits = shares.argmax(1) == targets.numpy()
    assert calibration_error(shares.max(1), hits) == pytest.approx(ece(logits, targets, bins=15))


def _columns(count, shift=0.0):
    summaries = (DICE.normal(size=(count, 4)) + shift).round(2).astype(np.float32)
    return columns_of(summaries, DICE.normal(size=(count, 3)).astype(np.float32), tuple("abcd"))


def test_drawn_windows_and_windows_of_traffic_are_measured_alike():
    """The way by masks over a sorted reference gives what the formulas give of the two parts."""
    reference = _columns(300)
    family = Family(reference)
    mask = np.zeros((1, 300), np.float32)
    rows = DICE.permutation(300)[:100]
    mask[0, rows] = 1
    found = family._of_masks(mask, 100)[0]
    rest = np.setdiff1d(np.arange(300), rows)
    scale = 100 * 200 / 300
    for place, test in enumerate(family.tests):
        if test.kind in (KS, PSI):
            column = reference.values[:, reference.names.index(test.what)]
            window, other = column[rows], column[rest]
            edges = two.bin_edges(column)
            counts = [
                np.bincount(np.searchsorted(edges, s, "left"), minlength=len(edges) + 1)
                for s in (window, other)
            ]
            by_hand = (
                two.kolmogorov_smirnov(window, other) * np.sqrt(scale)
                if test.kind == KS
                else two.stability_index(*counts) * scale
            )
        else:
            classes = [np.bincount(reference.classes[r], minlength=3) for r in (rows, rest)]
            points = family._standard(reference.inputs)
            felt = [two.waved(points[r], family._waves).mean(0) for r in (rows, rest)]
            by_hand = (
                scale * ((felt[0] - felt[1]) ** 2).sum()
                if test.kind == MMD
                else two.chi_square(*classes)
            )
        assert found[place] == pytest.approx(float(by_hand), rel=1e-4), test
    now = family.raw(family.statistics(_columns(50, 1.0)), 50)
    assert now[0] > 0.2


def test_raw_figures_are_those_of_the_formulas():
    reference, window = _columns(300), _columns(80, 0.4)
    family = Family(reference)
    raw = dict(zip(family.tests, family.raw(family.statistics(window), 80), strict=True))
    for test, value in raw.items():
        if test.kind == KS:
            place = reference.names.index(test.what)
            expected = two.kolmogorov_smirnov(window.values[:, place], reference.values[:, place])
            assert value == pytest.approx(expected, rel=1e-5)
    rightness = Rightness(np.arange(200) % 4 > 0, None, "accuracy", "wrong")
    found = rightness.statistics(np.arange(60) % 3 > 0, None)
    assert rightness.raw(found, 60)[0] == pytest.approx(1 / 3)


def test_a_level_is_exceeded_by_the_asked_share_and_a_rule_by_binomial():
    drawn = DICE.normal(size=(2000, 7))
    level = level_of(drawn, ("z",) * 7, 0.05)
    assert (level.read(drawn).max(1) > level.value).mean() <= 0.05
    fresh = DICE.normal(size=(4000, 7))
    assert (level.read(fresh).max(1) > level.value).mean() == pytest.approx(0.05, abs=0.015)
    assert level.p(level.value + 99) == pytest.approx(1 / 2001)
    assert np.allclose(level.read(level.at()), level.value)
    stats = pytest.importorskip("scipy.stats")
    assert rate_of_rule(0.01, 2, 3) == pytest.approx(stats.binom.sf(1, 3, 0.01))


def test_a_number_that_never_moved_is_no_miracle_when_it_moves_once():
    still = np.zeros((800, 1), np.float32)
    other = DICE.normal(size=(800, 3)).astype(np.float32)
    logits = DICE.normal(size=(800, 3)).astype(np.float32)
    reference = columns_of(np.concatenate([still, other], 1), logits, tuple("abcd"))
    family = Family(reference)
    level = level_of(
        family.drawn(100, 1000, np.random.default_rng(0)), tuple(t.kind for t in family.tests), 0.01
    )
    still[3] = 1
    once = columns_of(np.concatenate([still, other], 1)[:100], logits[:100], tuple("abcd"))
    readings = level.read(family.statistics(once))
    assert readings[0] < level.value
    still[:100] = 1
    often = columns_of(np.concatenate([still, other], 1)[:100], logits[:100], tuple("abcd"))
    assert level.read(family.statistics(often))[0] > level.value
