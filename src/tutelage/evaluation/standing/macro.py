"""Accuracy class by class: hits among the likeliest k, the mean over classes, the worst class."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import Interval, wilson
from tutelage.evaluation.metrics import _rank, checked
from tutelage.evaluation.standing.several import smallest, strictly


def within_top(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Which examples have their true class among the k likeliest, ``(N,)`` of bool.

    Example:
        >>> within_top(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1]), 2)
        tensor([True])
    """
    logits, targets = checked(logits, targets)
    if not 1 <= k <= logits.shape[1]:
        raise DataError(f"k is {k}, and there are {logits.shape[1]} classes: give 1 <= k <= that.")
    return _rank(logits, targets) < k


def class_intervals(
    hits: Tensor, targets: Tensor, classes: int, *, level: float = 0.95
) -> list[Interval | None]:
    """Share of hits in each class with Wilson's interval; None for a class without examples.

    Args:
        hits: ``(N,)`` of bool.
        targets: Class numbers ``(N,)``.
        classes: How many classes there are.
        level: Confidence of each by itself.
    """
    count = torch.bincount(targets, minlength=classes).tolist()
    right = torch.bincount(targets[hits], minlength=classes).tolist()
    return [
        wilson(one, all_, level=level) if all_ else None
        for one, all_ in zip(right, count, strict=True)
    ]


def mean_of(parts: Sequence[Interval | None]) -> Interval | None:
    """Mean of independent figures, each counting alike: of classes, the macro average.

    Its range adds up the squares of the parts' reaches: ``low = m - sqrt(sum (p - l)²) / n``. Of
    accuracies it is the balanced accuracy; of `newcombe` differences, that of two models.

    Args:
        parts: With their ranges; None where there is nothing to count, which is left out.

    Returns:
        None where nothing is left.

    Example:
        >>> found = mean_of([wilson(9, 10), wilson(50, 100), None])
        >>> round(found.mean, 2), round(found.low, 3), round(found.high, 3)
        (0.7, 0.541, 0.763)

    Paper: Zou and Donner, Statistics in Medicine 27:1693, 2008.
    """
    known = [one for one in parts if one is not None]
    if not known:
        return None
    many = len(known)
    mean = math.fsum(one.mean for one in known) / many
    down = math.sqrt(math.fsum((one.mean - one.low) ** 2 for one in known)) / many
    up = math.sqrt(math.fsum((one.high - one.mean) ** 2 for one in known)) / many
    method = f"{known[0].method}, mean of {many}"
    return Interval(mean, mean - down, mean + up, known[0].level, method)


def worst_class(
    hits: Tensor, targets: Tensor, classes: int, *, level: float = 0.95
) -> tuple[int, Interval]:
    """The class with the smallest share of hits, and that share with its range.

    Returns:
        Number of the class, and the interval of the smallest share (see `smallest`).
    """
    plain = class_intervals(hits, targets, classes, level=level)
    there = [c for c, one in enumerate(plain) if one is not None]
    at = strictly(level, len(there))
    strict = class_intervals(hits, targets, classes, level=at)
    kept = [one for one in plain if one is not None]
    found = smallest(kept, [one for one in strict if one is not None])
    return there[[one.mean for one in kept].index(found.mean)], found
