"""Which class is suspiciously easy to reach: outliers among the sizes of triggers."""

import math
from collections.abc import Sequence

from tutelage.core.errors import DataError

LEAST_CLASSES = 5
"""With fewer, the median deviation of the sizes says nothing of any one of them."""
_TO_DEVIATION = 1.4826  # of a normal distribution: its deviation over its median deviation
_LEAST_SPREAD = 0.1  # of logarithms: sizes within 10 % of each other make nobody an outlier


def anomaly_index(sizes: Sequence[float]) -> list[float]:
    """How many robust deviations each size lies below the median, on a logarithmic scale.

    ``(median(log s) - log s_c) / (1.4826 MAD(log s))``; positive for small triggers.

    Args:
        sizes: One a class, above 0; at least `LEAST_CLASSES`.

    Example:
        >>> [round(index, 1) for index in anomaly_index([20, 25, 16, 4, 22, 18])][3]
        6.6

    Paper: Wang et al., Neural Cleanse, IEEE S&P 2019, whose index is two-sided and of the sizes
    themselves. Deviates: sizes differ by factors, and only small ones are suspicious. The
    index alone tells little with 10 classes (see `flagged`).
    """
    if len(sizes) < LEAST_CLASSES:
        raise DataError(
            f"{len(sizes)} triggers have no outliers: at least {LEAST_CLASSES} classes are needed."
        )
    if any(not math.isfinite(size) or size <= 0 for size in sizes):
        raise DataError("sizes of triggers are finite numbers above 0.")
    logs = [math.log(size) for size in sizes]
    middle = _median(logs)
    spread = max(_TO_DEVIATION * _median([abs(each - middle) for each in logs]), _LEAST_SPREAD)
    return [(middle - each) / spread for each in logs]


def flagged(sizes: Sequence[float], *, threshold: float = 1.5, ratio: float = 1 / 3) -> list[int]:
    """Places of the sizes that are outliers, and at most ``ratio`` of the median besides.

    Some classes are easy to reach by nature: on Fashion-MNIST a handful of bright pixels make a
    bag, and an index of 2 alone accuses a quarter of clean models of it. Hence the second
    condition, under which few of the poisoned models are missed.

    >>> flagged([20, 25, 16, 4, 22, 18]), flagged([20, 21, 20, 15, 20, 20])
    ([3], [])
    """
    middle = _median(list(sizes))
    indices = anomaly_index(sizes)
    return [
        place
        for place, (size, index) in enumerate(zip(sizes, indices, strict=True))
        if index > threshold and size <= ratio * middle
    ]


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
