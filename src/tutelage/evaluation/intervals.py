"""How sure a figure is: intervals and tests for shares, differences, and runs over seeds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.distributions import (
    binomial_half_tail,
    checked_level,
    normal_quantile,
    student_t_quantile,
)


@dataclass(frozen=True)
class Interval:
    """A figure, and the range that holds its true value with confidence ``level``.

    Attributes:
        mean: The figure itself.
        low: Lower end.
        high: Upper end.
        level: Confidence, such as 0.95.
        method: How it was computed, in a few words.
    """

    mean: float
    low: float
    high: float
    level: float
    method: str

    @property
    def excludes_zero(self) -> bool:
        """True where the sign of the figure is beyond doubt, at this level."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, float | str]:
        """For JSON."""
        return asdict(self)


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share: what an accuracy measured on N examples is worth.

    Unlike ``p ± 1.96 sqrt(p (1 - p) / N)`` it stays within [0, 1] and holds near 0 and 1.

    Args:
        successes: Right answers.
        trials: Examples.
        level: Confidence.

    Example:
        >>> interval = wilson(9, 10)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.596, 0.982)

    Paper: Wilson, JASA 1927.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise DataError(f"{successes} of {trials} is no share: give 0 <= successes <= trials.")
    low, high = _wilson(successes / trials, trials, normal_quantile(level))
    return Interval(successes / trials, low, high, level, "Wilson score")


def newcombe(
    both: int, only_first: int, only_second: int, neither: int, *, level: float = 0.95
) -> Interval:
    """Interval for the difference of two accuracies measured on the same examples.

    Newcombe's hybrid score interval for paired shares (his method 10): Wilson's intervals of the
    two shares, combined with the correlation of the pairs. Good from a handful of examples on,
    where the bootstrap is not: per-class figures use it.

    Args:
        both: Examples both got right.
        only_first: Examples only the first got right.
        only_second: Examples only the second got right.
        neither: Examples neither got right.
        level: Confidence.

    Returns:
        ``accuracy(first) - accuracy(second)`` with its range.

    Example:
        >>> interval = newcombe(36, 12, 2, 0)
        >>> round(interval.mean, 2), round(interval.low, 4), round(interval.high, 4)
        (0.2, 0.0569, 0.3404)

    Paper: Newcombe, Statistics in Medicine 17:2635, 1998.
    """
    counts = (both, only_first, only_second, neither)
    total = sum(counts)
    if min(counts) < 0 or total == 0:
        raise DataError(f"the counts {counts} are no examples: none may be negative, nor all 0.")
    z = normal_quantile(level)
    first, second = (both + only_first) / total, (both + only_second) / total
    low1, high1 = _wilson(first, total, z)
    low2, high2 = _wilson(second, total, z)
    correlation = _newcombe_correlation(both, only_first, only_second, neither)

    def reach(near: float, far: float) -> float:
        return math.sqrt(max(near * near - 2 * correlation * near * far + far * far, 0.0))

    mean = (only_first - only_second) / total
    low = mean - reach(first - low1, high2 - second)
    high = mean + reach(high1 - first, second - low2)
    return Interval(mean, low, high, level, "Newcombe paired score")


def paired_bootstrap(
    first: Tensor, second: Tensor, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Interval for a mean difference of two models on the same examples, by resampling these.

    Covers the luck of which examples were tested, not the luck of training: for that, train with
    several seeds and use `paired_interval`.

    Args:
        first: One value an example, ``(N,)``: right or wrong, a loss.
        second: The other model's values on the same examples, ``(N,)``.
        seed: The run's seed; equal seeds give equal intervals.
        resamples: How many times the examples are drawn anew, with replacement.
        level: Confidence; the ends are percentiles of the resampled means.

    Returns:
        ``mean(first - second)`` with its range.

    Paper: Efron, Annals of Statistics 1979.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise DataError(
            f"values of shapes {tuple(first.shape)} and {tuple(second.shape)} were given: "
            "one value an example, (N,), is needed from both models."
        )
    difference = first.detach().cpu().double() - second.detach().cpu().double()
    if not bool(difference.isfinite().all()):
        raise DataError("some values are NaN or infinite: their mean has no interval.")
    outside = (1 - checked_level(level)) / 2
    dice = generator(seed, "paired bootstrap")
    total, at_once = len(difference), max(1, 2_000_000 // len(difference))
    means = [
        difference[torch.randint(total, (min(at_once, left), total), generator=dice)].mean(-1)
        for left in range(resamples, 0, -at_once)
    ]
    ends = torch.tensor([outside, 1 - outside], dtype=torch.float64)
    low, high = torch.cat(means).quantile(ends).tolist()
    return Interval(difference.mean().item(), low, high, level, "paired bootstrap over examples")


@dataclass(frozen=True)
class McNemar:
    """The exact test of whether two models' accuracies on the same examples differ.

    Attributes:
        only_first: Examples only the first got right.
        only_second: Examples only the second got right.
        p: Probability of a split at least this uneven if the two were equally good.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Tensor, second: Tensor) -> McNemar:
    """McNemar's exact two-sided test on paired right answers, each ``(N,)`` of bool.

    Example:
        >>> right = torch.tensor([True] * 8 + [False] * 2)
        >>> round(mcnemar(right, ~right).p, 6)
        0.109375

    Paper: McNemar, Psychometrika 1947.
    """
    if first.shape != second.shape or first.dtype != torch.bool or second.dtype != torch.bool:
        raise DataError("which answers are right is needed from both models: (N,) of bool each.")
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    fewer, total = min(only_first, only_second), only_first + only_second
    p = min(1.0, 2 * binomial_half_tail(fewer, total)) if total else 1.0
    return McNemar(only_first, only_second, p)


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean over runs with Student's t interval: ``mean ± t · s / sqrt(n)``.

    Args:
        values: One figure a seed, at least two.
        level: Confidence.

    Example:
        >>> interval = mean_interval([1.0, 2.0, 3.0])
        >>> round(interval.low, 3), interval.mean, round(interval.high, 3)
        (-0.484, 2.0, 4.484)
    """
    if len(values) < 2:
        raise DataError(
            f"{len(values)} value was given: an interval over seeds needs at least 2 runs."
        )
    if not all(map(math.isfinite, values)):
        raise DataError("some values are NaN or infinite: their mean has no interval.")
    n, mean = len(values), math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    reach = student_t_quantile(level, n - 1) * deviation / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach, level, f"Student's t over {n} seeds")


def paired_interval(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95
) -> Interval:
    """Mean difference of two arms trained with the same seeds, with Student's t interval.

    Args:
        first: One figure a seed.
        second: The other arm's figures for the same seeds, in the same order.
        level: Confidence.

    Returns:
        ``mean(first - second)`` with its range.

    Example:
        >>> interval = paired_interval([0.91, 0.92, 0.93], [0.90, 0.91, 0.91])
        >>> round(interval.mean, 4), interval.excludes_zero
        (0.0133, False)
    """
    if len(first) != len(second):
        raise DataError(
            f"{len(first)} and {len(second)} values were given: both arms need the same seeds."
        )
    interval = mean_interval([a - b for a, b in zip(first, second, strict=True)], level=level)
    method = f"Student's t on paired differences over {len(first)} seeds"
    return Interval(interval.mean, interval.low, interval.high, level, method)


def per_class_delta(
    first: Tensor, second: Tensor, targets: Tensor, classes: int, *, level: float = 0.95
) -> list[Interval | None]:
    """For each class, the first model's accuracy minus the second's, by `newcombe`.

    Args:
        first: Which examples the first got right, ``(N,)`` of bool.
        second: Which examples the second got right, ``(N,)`` of bool.
        targets: True class numbers ``(N,)``.
        classes: How many classes there are.
        level: Confidence of each interval by itself. Of 20 classes one will look changed at 0.95
            by chance: to claim anything of any of them, ask for ``1 - 0.05 / classes``.

    Returns:
        One interval a class; None for a class without examples.
    """
    pairs = torch.bincount(targets * 4 + first.long() * 2 + second.long(), minlength=classes * 4)
    table: list[list[int]] = pairs.view(classes, 4).tolist()
    return [
        newcombe(both, one, two, neither, level=level) if both + one + two + neither else None
        for neither, two, one, both in table
    ]


def _wilson(share: float, total: int, z: float) -> tuple[float, float]:
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    spread = math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    reach = z / (1 + z * z / total) * spread
    # Exact ends where nothing, or everything, was right: no rounding below 0 or above 1.
    return (
        0.0 if share == 0 else middle - reach,
        1.0 if share == 1 else middle + reach,
    )


def _newcombe_correlation(both: int, one: int, two: int, neither: int) -> float:
    margins = (both + one) * (two + neither) * (both + two) * (one + neither)
    if margins == 0:
        return 0.0
    cross = both * neither - one * two
    if cross > 0:  # his continuity correction, towards no correlation
        cross = max(cross - (both + one + two + neither) / 2, 0)  # type: ignore[assignment]
    return cross / math.sqrt(margins)
