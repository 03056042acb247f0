r"""How sure a gap between groups is, and how sure it is that one model's is wider than another's.

A gap is a largest difference, so its plain bootstrap interval is biased upwards, and a model that
is merely less exact than another looks less fair by chance. Here a gap is the largest of all
*contrasts* :math:`c_k = r_{a,m} - r_{b,m}` (ordered pairs of groups a, b and rates m). With the
standard errors of a paired bootstrap over examples, stratified by group, and :math:`z` for all
contrasts together (Bonferroni):

.. math::
    \max_k c_k - z s_k \le \text{gap} \le \max_k c_k + z s_k, \qquad
    \max_k \min_j \, (c_k - d_j) - z s_{kj} \le \text{gap}_c - \text{gap}_d

since the gap of c is wider than that of d exactly where one contrast of c is above every one of d
(a union of intersections); the upper end is the same with both models exchanged. Both hold together
at the level asked for, at least.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.fairness.rates import Tally, rates, support
from tutelage.evaluation.intervals import Interval, wilson

_AT_ONCE = 2_000_000
_LEADING = 64  # contrasts that may be the widest: fewer make an interval wider, never wrong


def newcombe_independent(
    successes: int, trials: int, others: int, other_trials: int, *, level: float = 0.95
) -> Interval:
    """Interval for the difference of two shares of different examples: of two groups, say.

    Newcombe's hybrid score interval for independent shares (his method 10): each side is as far
    from the difference as the ends of both Wilson intervals together.

    Args:
        successes: Right answers in the first group.
        trials: Examples in the first group.
        others: Right answers in the second group.
        other_trials: Examples in the second group.
        level: Confidence.

    Returns:
        ``successes / trials - others / other_trials`` with its range.

    Example:
        >>> interval = newcombe_independent(56, 70, 48, 80)  # his example (a)
        >>> round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4)
        (0.2, 0.0524, 0.3339)

    Paper: Newcombe, Statistics in Medicine 17:873, 1998.
    """
    first, second = (
        wilson(successes, trials, level=level),
        wilson(others, other_trials, level=level),
    )
    mean = first.mean - second.mean
    low = mean - math.hypot(first.mean - first.low, second.high - second.mean)
    high = mean + math.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(mean, low, high, level, "Newcombe score, independent")


def resampled(
    said: Sequence[Tensor],
    targets: Tensor,
    numbers: Tensor,
    groups: int,
    classes: int,
    *,
    seed: int,
    resamples: int = 1000,
) -> list[Tally]:
    """Several models' tallies on examples drawn anew, the same draw for all of them.

    Stratified: every group keeps its number of examples.

    Args:
        said: Each model's answers, class numbers ``(N,)``.
        targets: True class numbers ``(N,)``.
        numbers: Group of each example ``(N,)``; negative ones are left out.
        groups: How many groups, G.
        classes: How many classes, C.
        seed: The run's seed.
        resamples: How many draws, R.

    Returns:
        One tally ``(R, G, C)`` a model.
    """
    dice = generator(seed, "fairness bootstrap")
    empty = torch.zeros(resamples, groups, classes, dtype=torch.float64)
    found = [Tally(empty.clone(), empty.clone(), empty.clone()) for _ in said]
    for group in range(groups):
        rows = (numbers == group).nonzero().flatten()
        if not len(rows):
            continue
        answers = torch.stack([targets[rows], *(each[rows] for each in said)])
        # Examples that are alike.
        cells, place = answers.unique(dim=1, return_inverse=True)  # type: ignore[no-untyped-call]
        drawn = _drawn(place, cells.shape[1], resamples, dice)
        truth = cells[0]
        for model, mine in zip(found, cells[1:], strict=True):
            hit = mine == truth
            model.true[:, group].index_add_(1, truth, drawn)
            model.said[:, group].index_add_(1, mine, drawn)
            model.right[:, group].index_add_(1, truth[hit], drawn[:, hit])
    return found


def _drawn(place: Tensor, cells: int, resamples: int, dice: torch.Generator) -> Tensor:
    """How often each kind of example is drawn, ``(R, cells)``."""
    total, found = len(place), []
    at_once = max(1, _AT_ONCE // total)
    for left in range(resamples, 0, -at_once):
        many = min(at_once, left)
        picked = place[torch.randint(total, (many, total), generator=dice)]
        picked += cells * torch.arange(many)[:, None]
        found.append(torch.bincount(picked.flatten(), minlength=many * cells).view(many, cells))
    return torch.cat(found).double()


@dataclass(frozen=True)
class Contrasts:
    """Differences of rates between two groups, with what a bootstrap says of them.

    Attributes:
        first: Group whose rate is taken, ``(K,)``.
        second: Group whose rate is taken off, ``(K,)``.
        column: Which of `tutelage.evaluation.fairness.rates`, ``(K,)``.
        values: The differences ``(K,)``.
        noise: Resampled differences less their mean, ``(R, K)``.
        floor: Least variance ``(K,)``: cells of few examples may look alike in every draw.
    """

    first: Tensor
    second: Tensor
    column: Tensor
    values: Tensor
    noise: Tensor
    floor: Tensor

    @property
    def variance(self) -> Tensor:
        """Of each difference, ``(K,)``."""
        return self.noise.square().sum(0) / (len(self.noise) - 1)

    @property
    def widest(self) -> int:
        """Which contrast is the gap."""
        return int(self.values.argmax())


def contrasts(counted: Tally, draws: Tally, measure: str, *, least: int = 1) -> Contrasts | None:
    """All ordered pairs of groups, in all rates of a measure.

    Args:
        counted: Of one model.
        draws: Of the same model, from `resampled`.
        measure: See `tutelage.evaluation.fairness.rates.MEASURES`.
        least: Examples that a rate must rest on to be compared.

    Returns:
        None where no rate is known of two groups.
    """
    rate, rests = rates(counted, measure), support(counted, measure)
    known = rests >= max(least, 1)
    both = known[:, None] & known[None, :] & ~torch.eye(len(rate), dtype=torch.bool)[..., None]
    first, second, column = both.nonzero().unbind(1)
    if not len(first):
        return None
    fresh = torch.where(rates(draws, measure).isnan(), rate, rates(draws, measure))
    noise = fresh[:, first, column] - fresh[:, second, column]
    few = 2 / (rests + 4)  # two more of either kind, as Agresti and Coull have it
    floor = few * (1 - few) / (rests + 4)
    return Contrasts(
        first,
        second,
        column,
        rate[first, column] - rate[second, column],
        noise - noise.mean(0),
        floor[first, column] + floor[second, column],
    )


def gap_interval(of: Contrasts, *, level: float = 0.95) -> Interval:
    """A gap with a range that allows for all contrasts it is the largest of."""
    reach = _z(level, len(of.values)) * torch.maximum(of.variance, of.floor).sqrt()
    low, high = (of.values - reach).max().item(), (of.values + reach).max().item()
    mean = of.values.max().item()
    method = "largest contrast, paired bootstrap, Bonferroni"
    return Interval(mean, max(low, 0.0), min(high, 1.0), level, method)


def gap_change(of: Contrasts, against: Contrasts, *, level: float = 0.95) -> Interval:
    """By how much one model's gap is wider than another's on the same examples.

    Args:
        of: Of the one, the student.
        against: Of the other, the teacher: same measure, groups and draws.
        level: Confidence. Ask for more where several gaps are looked at.

    Returns:
        ``gap(of) - gap(against)`` with its range; above 0 where the gap is wider beyond chance.
    """
    if of.noise.shape != against.noise.shape:
        raise DataError("two models' gaps are compared on the same examples, groups and draws.")
    mean = (of.values.max() - against.values.max()).item()
    z = _z(level, len(of.values))
    low, high = _least(of, against, z), -_least(against, of, z)
    method = "difference of largest contrasts, paired bootstrap, Bonferroni"
    return Interval(mean, max(low, -1.0), min(high, 1.0), level, method)


def _least(of: Contrasts, against: Contrasts, z: float) -> float:
    """What the gap of the one is wider at least."""
    leading = of.values.topk(min(_LEADING, len(of.values))).indices
    both = of.noise[:, leading].T @ against.noise / (len(of.noise) - 1)
    variance = of.variance[leading, None] + against.variance - 2 * both
    variance = torch.maximum(variance, torch.maximum(of.floor[leading, None], against.floor))
    bound = of.values[leading, None] - against.values - z * variance.sqrt()
    return bound.amin(1).max().item()


def _z(level: float, many: int) -> float:
    return normal_quantile(1 - (1 - level) / many)
