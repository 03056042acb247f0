"""Who goes into which split: seeded choices that keep the classes in balance.

A choice is a function of (seed, example ids) by `core.seeds.uniform`, so it is the same on every
machine, with every version of torch, and does not depend on the order of the examples.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from tutelage.core.errors import DataError


def pick(targets: Tensor, quota: Tensor, numbers: Tensor) -> Tensor:
    """Of every class the ``quota`` examples with the smallest numbers.

    Args:
        targets: Class numbers ``(N,)``; negative ones are never picked.
        quota: How many of each class ``(C,)``.
        numbers: One random number for each example ``(N,)``.

    Returns:
        Rows, ascending, ``(quota.sum(),)`` of int64.

    Example:
        >>> targets = torch.tensor([0, 1, 0, 1])
        >>> pick(targets, torch.tensor([1, 1]), torch.tensor([0.9, 0.2, 0.1, 0.3])).tolist()
        [1, 2]
    """
    by_number = numbers.argsort(stable=True)
    by_number = by_number[targets[by_number] >= 0]
    by_class = by_number[targets[by_number].argsort(stable=True)]
    kinds = targets[by_class]
    sizes = torch.bincount(kinds, minlength=len(quota))
    rank = torch.arange(len(kinds)) - (sizes.cumsum(0) - sizes)[kinds]
    return by_class[rank < quota[kinds]].sort().values


def amount(asked: float, total: int, what: str) -> int:
    """A count (int) or a fraction (float in (0, 1)) of ``total`` as a count.

    >>> amount(5, 100, "validation"), amount(0.1, 100, "validation")
    (5, 10)
    """
    if isinstance(asked, float) and 0 < asked < 1:
        return max(1, round(asked * total))
    number = isinstance(asked, Real) and not isinstance(asked, bool) and math.isfinite(asked)
    if not number or asked != int(asked) or asked <= 0:
        got = " ".join(repr(asked).split())[:40]
        raise DataError(
            f"{what} is {got}, expected a count of at least 1 or a fraction between 0 and 1."
        )
    if asked >= total:
        raise DataError(
            f"{what} asks for {int(asked)} examples, and there are {total} in all: ask for fewer."
        )
    return int(asked)


def proportional(sizes: Tensor, count: int, what: str) -> Tensor:
    """``count`` examples shared out by class size, leaving at least one of every class behind.

    >>> proportional(torch.tensor([50, 30, 20]), 10, "validation").tolist()
    [5, 3, 2]
    """
    present = int((sizes > 0).sum())
    if present == 0:
        raise DataError(
            f"{what} of {count} examples was asked of examples without any label: give labels to "
            "some of them, or a validation and a test set of your own."
        )
    if count < present:
        raise DataError(
            f"{what} of {count} examples is too small for {present} classes: "
            f"ask for at least {present}."
        )
    exact = sizes.double() * count / int(sizes.sum())
    ceiling = (sizes - 1).clamp(min=0)
    quota = exact.floor().long().minimum(ceiling)
    order = (quota - exact).argsort(stable=True)  # the largest remainder first
    while (left := count - int(quota.sum())) > 0:
        open_ = order[quota[order] < ceiling[order]][:left]
        if not len(open_):
            break
        quota[open_] += 1
    if int(quota.sum()) < count:
        raise DataError(
            f"{what} of {count} examples would empty a class of {int(sizes[sizes > 0].min())} "
            "in train: ask for fewer, or bring more examples."
        )
    return quota


def even(sizes: Tensor, count: int, numbers: Tensor) -> Tensor:
    """``count`` examples shared out as evenly as class sizes allow.

    Args:
        sizes: Examples of each class ``(C,)``.
        count: How many in all, at most ``sizes.sum()``.
        numbers: One random number a class ``(C,)``: the smallest get what is left over.

    Returns:
        How many of each class ``(C,)``.

    Example:
        >>> even(torch.tensor([9, 1, 9]), 10, torch.tensor([0.7, 0.1, 0.2])).tolist()
        [4, 1, 5]
    """
    quota = torch.zeros_like(sizes)
    while (left := count - int(quota.sum())) > 0:
        open_ = (quota < sizes).nonzero().flatten()
        if left < len(open_):
            open_ = open_[numbers[open_].argsort(stable=True)[:left]]
        quota[open_] = (quota[open_] + max(1, left // len(open_))).minimum(sizes[open_])
    return quota
