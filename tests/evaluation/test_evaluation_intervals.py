"""Intervals and tests against published values, exact sums, and the coverage they promise."""

import math

import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.evaluation import (
    mcnemar,
    mean_interval,
    newcombe,
    paired_bootstrap,
    paired_interval,
    per_class_delta,
    wilson,
)
from tutelage.evaluation.distributions import (
    binomial_half_tail,
    normal_quantile,
    regularised_beta,
    student_t_quantile,
)


@pytest.mark.parametrize(
    # two-sided level, degrees of freedom, quantile: the usual printed table
    ("level", "freedom", "quantile"),
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 4, 2.776),
        (0.95, 9, 2.262),
        (0.95, 30, 2.042),
        (0.95, 120, 1.980),
        (0.90, 1, 6.314),
        (0.90, 5, 2.015),
        (0.99, 1, 63.657),
        (0.99, 2, 9.925),
        (0.99, 10, 3.169),
        (0.999, 3, 12.924),
    ],
)
def test_student_t_equals_the_printed_table(level, freedom, quantile):
    assert student_t_quantile(level, freedom) == pytest.approx(quantile, abs=5.1e-4)


def test_student_t_is_exact_where_a_closed_form_exists():
    for level in (0.5, 0.9, 0.95, 0.999):
        cauchy = math.tan(math.pi * level / 2)
        assert student_t_quantile(level, 1) == pytest.approx(cauchy, rel=1e-10)
        two = level * math.sqrt(2 / (1 - level**2))
        assert student_t_quantile(level, 2) == pytest.approx(two, rel=1e-10)
    assert student_t_quantile(0.95, 10**7) == pytest.approx(normal_quantile(0.95), rel=1e-6)


def test_the_incomplete_beta_function_equals_the_binomial_sum():
    for trials in (1, 5, 12, 300):
        for successes in {0, 1, trials // 3, trials // 2, trials - 1, trials}:
            exact = sum(math.comb(trials, i) for i in range(successes + 1)) / 2**trials
            assert binomial_half_tail(successes, trials) == pytest.approx(exact, rel=1e-10)
    assert regularised_beta(0.5, 0.5, 0.25) == pytest.approx(2 / math.pi * math.asin(0.5))


def test_wilson_equals_published_values():
    # Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3
    for (hits, total), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        interval = wilson(hits, total)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    assert wilson(20, 20).high == 1


def test_newcombe_equals_published_values():
    # Newcombe, Statistics in Medicine 17:2635 (1998), method 10
    interval = newcombe(36, 12, 2, 0)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0569, 0.3404)
    assert newcombe(10, 0, 0, 0).mean == 0
    assert newcombe(0, 10, 0, 0).high == 1


def test_newcombe_turns_over_with_its_arguments():
    one, other = newcombe(30, 9, 4, 7), newcombe(30, 4, 9, 7)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_newcombe_holds_what_it_promises_on_small_classes():
    dice, held = torch.Generator().manual_seed(0), 0
    share = torch.tensor([0.70, 0.15, 0.05, 0.10])  # both, first, second, neither: truth 0.10
    for _ in range(2000):
        drawn = torch.multinomial(share, 40, replacement=True, generator=dice)
        interval = newcombe(*torch.bincount(drawn, minlength=4).tolist())
        held += interval.low <= 0.10 <= interval.high
    assert 0.93 < held / 2000 < 0.985


def test_mcnemar_is_the_exact_binomial_test():
    first = torch.tensor([True] * 15 + [False] * 5 + [True] * 30)
    second = torch.tensor([False] * 15 + [True] * 5 + [True] * 30)
    found = mcnemar(first, second)
    exact = 2 * sum(math.comb(20, i) for i in range(6)) / 2**20
    assert (found.only_first, found.only_second) == (15, 5)
    assert found.p == pytest.approx(exact)
    assert mcnemar(first, first).p == 1
    even = torch.tensor([True, False])
    assert mcnemar(even, ~even).p == 1


def test_the_bootstrap_is_reproducible_and_near_the_normal_interval():
    dice = torch.Generator().manual_seed(5)
    first = torch.rand(4000, generator=dice)
    second = first + 0.1 * torch.randn(4000, generator=dice) - 0.01
    one = paired_bootstrap(first, second, seed=3)
    assert one == paired_bootstrap(first, second, seed=3)
    assert one != paired_bootstrap(first, second, seed=4)
    error = (first - second).std().item() / math.sqrt(4000)
    assert one.mean == pytest.approx((first - second).double().mean().item())
    assert one.low == pytest.approx(one.mean - 1.96 * error, abs=0.15 * error)
    assert one.high == pytest.approx(one.mean + 1.96 * error, abs=0.15 * error)


def test_the_bootstrap_draws_all_resamples_however_they_are_cut():
    values = torch.arange(3.0)
    many = paired_bootstrap(values, torch.zeros(3), seed=0, resamples=7, level=0.5)
    assert 0 <= many.low <= many.high <= 2


def test_an_interval_over_seeds_equals_the_formula_by_hand():
    student, alone = [0.901, 0.911, 0.905], [0.899, 0.905, 0.903]
    interval = paired_interval(student, alone)
    differences = [0.002, 0.006, 0.002]
    mean = sum(differences) / 3
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2)
    reach = 4.302652729911 * deviation / math.sqrt(3)
    assert interval.mean == pytest.approx(mean)
    assert (interval.low, interval.high) == pytest.approx((mean - reach, mean + reach))
    assert not interval.excludes_zero
    assert paired_interval([2.0, 2.1], [1.0, 1.1]).excludes_zero


def test_intervals_over_seeds_hold_what_they_promise():
    dice = torch.Generator().manual_seed(1)
    runs = torch.randn(3000, 3, generator=dice).double() + 0.5
    held = sum(1 for run in runs.tolist() if (i := mean_interval(run)).low <= 0.5 <= i.high)
    assert held / 3000 == pytest.approx(0.95, abs=0.015)


def test_per_class_changes_are_paired_and_an_absent_class_has_none():
    targets = torch.tensor([0, 0, 0, 0, 2, 2])
    first = torch.tensor([True, True, True, False, True, True])
    second = torch.tensor([True, False, False, True, True, True])
    changes = per_class_delta(first, second, targets, 4)
    assert changes[0] == newcombe(1, 2, 1, 0)
    assert changes[2] == newcombe(2, 0, 0, 0)
    assert changes[1] is None
    assert changes[3] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(3, 2), "3 of 2 is no share"),
        (lambda: wilson(0, 0), "0 of 0 is no share"),
        (lambda: wilson(1, 2, level=95), "level is 95: give a share such as 0.95"),
        (lambda: newcombe(0, 0, 0, 0), "are no examples"),
        (lambda: mean_interval([1.0]), "at least 2 runs"),
        (lambda: mean_interval([1.0, math.nan]), "NaN or infinite"),
        (lambda: paired_interval([1.0, 2.0], [1.0]), "both arms need the same seeds"),
        (lambda: paired_bootstrap(torch.ones(2), torch.ones(3), seed=0), "one value an example"),
        (lambda: mcnemar(torch.ones(2), torch.ones(2)), "of bool each"),
    ],
)
def test_what_has_no_interval_is_refused_in_one_line(call, message):
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
