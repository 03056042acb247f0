"""CKA against Gram matrices written out in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.kept.cka import compare_cka, linear_cka, unbiased_cka


def features(total, *widths, seed=0, common=1.0):
    """Feature spaces that share a part."""
    dice = generator(seed, "features")
    shared = torch.randn(total, 3, generator=dice, dtype=torch.float64)
    return [
        common * shared @ torch.randn(3, width, generator=dice, dtype=torch.float64)
        + torch.randn(total, width, generator=dice, dtype=torch.float64)
        for width in widths
    ]


def plain_cka(x, y):
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def plain_hsic(k, m):
    """Song et al. (2012), with Gram matrices whose diagonal is 0, by loops over examples."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    trace = sum(k[i, j] * m[j, i] for i in range(n) for j in range(n))
    sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (trace + sums - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def plain_unbiased(x, y):
    k, m = x @ x.T, y @ y.T
    return plain_hsic(k, m) / np.sqrt(plain_hsic(k, k) * plain_hsic(m, m))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 30), st.integers(1, 40), st.integers(1, 40))
def test_both_equal_their_formulas(seed, total, first, second):
    x, y = features(total, first, second, seed=seed)
    assert linear_cka(x, y) == pytest.approx(plain_cka(x.numpy(), y.numpy()), abs=1e-6)
    denominators = [plain_hsic(a @ a.T, a @ a.T) for a in (x.numpy(), y.numpy())]
    if min(denominators) > 1e-6:
        assert unbiased_cka(x, y) == pytest.approx(plain_unbiased(x.numpy(), y.numpy()), abs=1e-6)


@pytest.mark.parametrize("measure", [linear_cka, unbiased_cka])
def test_it_does_not_see_rotation_scale_and_shift(measure):
    x, y = features(60, 8, 5)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator(1, "turn"), dtype=torch.float64)).Q
    assert measure(x, 7 * x @ turn + 100) == pytest.approx(1, abs=1e-9)
    assert measure(1e-6 * x @ turn + 3, y) == pytest.approx(measure(x, y), abs=1e-6)
    assert measure(x, y) == pytest.approx(measure(y, x), abs=1e-12)


def test_few_examples_inflate_the_plain_one_only():
    found = [features(30, 300, 300, seed=seed, common=0.0) for seed in range(20)]
    assert np.mean([linear_cka(*pair) for pair in found]) > 0.8
    assert abs(np.mean([unbiased_cka(*pair) for pair in found])) < 0.03


@pytest.mark.parametrize("measure", [linear_cka, unbiased_cka])
def test_features_that_never_change_have_none(measure):
    assert measure(torch.ones(9, 3), torch.eye(9)) is None


@pytest.mark.parametrize(
    "pair",
    [
        (torch.zeros(9, 3), torch.zeros(8, 3)),
        (torch.zeros(3, 3), torch.zeros(3, 3)),
        (torch.zeros(9), torch.zeros(9)),
        (torch.full((9, 3), torch.nan), torch.zeros(9, 3)),
    ],
)
def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(DataError):
        unbiased_cka(*pair)


def test_the_nearer_model_is_shown_to_be_nearer():
    dice = generator(0, "near")
    reference = torch.randn(400, 6, generator=dice)
    near = reference + 0.3 * torch.randn(400, 6, generator=dice)
    far = reference + 1.5 * torch.randn(400, 6, generator=dice)
    found = compare_cka(reference, near, far)
    assert found.difference.low > 0
    assert found.difference.mean == pytest.approx(found.first - found.second)
    assert found.first == unbiased_cka(reference, near)
    back = compare_cka(reference, far, near)
    assert back.difference.high < 0


def test_of_two_equally_near_none_is_called_nearer():
    alarms = 0
    for seed in range(60):
        dice = generator(seed, "equal")
        reference = torch.randn(120, 5, generator=dice)
        first, second = (reference + torch.randn(120, 5, generator=dice) for _ in range(2))
        alarms += compare_cka(reference, first, second).difference.excludes_zero
    assert alarms <= 8  # 5 % of 60 are 3


def test_too_few_for_an_interval_are_none():
    x = torch.randn(20, 3, generator=generator(0, "few"))
    assert compare_cka(x, x, x) is None
    assert compare_cka(x.repeat(3, 1), torch.ones(60, 2), x.repeat(3, 1)) is None
