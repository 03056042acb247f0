"""Negative flips against those of a student that nobody taught: how many are too many."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import Interval, mean_interval, wilson
from tutelage.evaluation.metrics import right
from tutelage.evaluation.predict import Predictions

SEEDS = 3  # fewer cannot tell teaching from the luck of training


@dataclass(frozen=True)
class Flips:
    """Which examples changed sides when one model was put in the place of another.

    Attributes:
        negative: Right before and wrong now, ``(N,)`` of bool.
        positive: Wrong before and right now, ``(N,)`` of bool.
        before: Right before, ``(N,)`` of bool.
    """

    negative: Tensor
    positive: Tensor
    before: Tensor

    @property
    def rate(self) -> float:
        """Negative flips as a share of all examples: the NFR."""
        return self.negative.double().mean().item()

    @property
    def relative(self) -> float | None:
        """NFR as a multiple of what two models whose errors have nothing in common would show.

        ``NFR / ((1 - e_old) · e_new)`` with the error rates of both: below 1 where the two err on
        the same examples, 1 where their errors are unrelated. A more accurate new model flips
        less whatever else it does; this figure does not reward it for that. None where no flip is
        possible (nothing was right before, or nothing is wrong now).

        Paper: Yan et al., "Positive-Congruent Training", CVPR 2021, arXiv 2011.09161.
        """
        now = self.before & ~self.negative | self.positive
        chance = self.before.double().mean() * (1 - now.double().mean())
        return self.rate / chance.item() if chance > 0 else None


def flips(before: Predictions, now: Predictions) -> Flips:
    """Flips of all examples, on replacing one model by another.

    Example:
        >>> import torch
        >>> answers = [torch.eye(2), torch.eye(2)[[0, 0]]]
        >>> truth, ids = torch.tensor([0, 1]), torch.arange(2)
        >>> changed = flips(*(Predictions(each, truth, ids, ("a", "b")) for each in answers))
        >>> changed.rate, changed.relative
        (0.5, 1.0)
    """
    old, new = right(before.logits, before.targets), right(now.logits, now.targets)
    return Flips(old & ~new, ~old & new, old)


def flip_ratio(student: Tensor, retrains: Tensor, *, level: float = 0.95) -> Interval:
    """How many times as often the student flips as independent retrains do, on the same examples.

    ``p1 / p2``, p1 the student's share of flips and p2 the retrains' mean share. Its ends are the
    ratios t at which the range of ``p1 - t p2`` ends in 0, that range being built from Wilson's
    ends (l, u) of both shares and the correlation r of the pairs:
    ``(p1 - t p2)² = (p1 - l1)² - 2 r t (p1 - l1)(u2 - p2) + t² (u2 - p2)²`` for the lower end, and
    the same with u1 and l2 for the upper. Covers the luck of which examples were tested, not the
    luck of training: see `flip_ratio_over_seeds`.

    Args:
        student: Which examples flip with the student, ``(N,)`` of bool.
        retrains: The same for each retrain, ``(K, N)`` of bool.
        level: Confidence.

    Returns:
        The ratio with its range. Where no retrain flips anything, half an example is counted for
        it, so that the ratio stays finite and its upper end far away.

    Example:
        >>> import torch
        >>> student = torch.arange(1000) < 30
        >>> round(flip_ratio(student, (torch.arange(1000) < 60)[None]).mean, 6)
        0.5

    Paper: Donner and Zou, Statistical Methods in Medical Research 21:347, 2012.
    """
    if student.ndim != 1 or retrains.shape[1:] != student.shape or not len(retrains):
        raise DataError(
            f"flips of shapes {tuple(student.shape)} and {tuple(retrains.shape)} were given: "
            "(N,) of the student and (K, N) of K retrains are needed."
        )
    one, other = student.double(), retrains.double().mean(0)
    total, p1 = len(one), one.mean().item()
    p2 = other.mean().item() or 0.5 / total
    first = wilson(int(student.sum()), total, level=level)
    # A mean over retrains varies no more than a share of as many examples: wide enough.
    second = _wilson_of_mean(p2, total, level)
    r = _correlation(one, other)
    low = _end(p1, p2, p1 - first.low, second.high - p2, r, -1)
    high = _end(p1, p2, first.high - p1, p2 - second.low, r, +1)
    return Interval(p1 / p2, low, high, level, "ratio of paired shares over examples")


def flip_ratio_over_seeds(
    students: Sequence[float], retrains: Sequence[float], *, level: float = 0.95
) -> Interval | None:
    """The same ratio with a range over trainings: Student's t on its logarithm, pair by pair.

    Args:
        students: Share of flips of each seed's student.
        retrains: Of each seed's retrain, in the same order.
        level: Confidence.

    Returns:
        The geometric mean of the ratios with its range; None with fewer than three pairs, or
        where a share is 0.
    """
    pairs = list(zip(students, retrains, strict=False))
    if len(pairs) < SEEDS or min(map(min, pairs)) <= 0:
        return None
    found = mean_interval([math.log(one / other) for one, other in pairs], level=level)
    mean, low, high = (math.exp(end) for end in (found.mean, found.low, found.high))
    return Interval(mean, low, high, level, f"Student's t on the logarithm over {len(pairs)} seeds")


def _wilson_of_mean(share: float, total: int, level: float) -> Interval:
    exact = share * total
    below, above = (
        wilson(round(n), total, level=level) for n in (math.floor(exact), math.ceil(exact))
    )
    part = exact - math.floor(exact)
    low, high = (
        (1 - part) * getattr(below, end) + part * getattr(above, end) for end in ("low", "high")
    )
    return Interval(share, low, high, level, "Wilson score")


def _end(p1: float, p2: float, reach1: float, reach2: float, r: float, side: int) -> float:
    # t² (p2² - reach2²) - 2 t (p1 p2 - r reach1 reach2) + (p1² - reach1²) = 0
    square, half = p2 * p2 - reach2 * reach2, p1 * p2 - r * reach1 * reach2
    root = math.sqrt(max(half * half - square * (p1 * p1 - reach1 * reach1), 0.0))
    if abs(square) < 1e-300:
        return (p1 * p1 - reach1 * reach1) / (2 * half) if half else math.inf
    return max(0.0, (half + side * root) / square)


def _correlation(one: Tensor, other: Tensor) -> float:
    spread = one.std(correction=0) * other.std(correction=0)
    if spread == 0:
        return 0.0
    return (((one - one.mean()) * (other - other.mean())).mean() / spread).clamp(-1, 1).item()
