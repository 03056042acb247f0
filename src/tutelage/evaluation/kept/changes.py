"""Where two models differ: which examples, classes, confusions and groups changed hands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.evaluation.distributions import binomial_half_tail
from tutelage.evaluation.intervals import Interval, newcombe
from tutelage.evaluation.predict import Predictions


@dataclass(frozen=True)
class Moved:
    """The examples on which exactly one of two models is right.

    Attributes:
        lost: Rows that the first got right and the second gets wrong, most moved first.
        gained: Rows the other way round, most moved first.
        mass: For every example how much probability the true class lost, ``(N,)`` in [-1, 1].
        before: The first model's probability of the true class, ``(N,)``.
        said: The second model's answers, ``(N,)``.
        sure: How sure it is of them, ``(N,)``.
    """

    lost: Tensor
    gained: Tensor
    mass: Tensor
    before: Tensor
    said: Tensor
    sure: Tensor


def moved(first: Predictions, second: Predictions) -> Moved:
    """Who was lost and gained from the first model to the second, by the probability mass moved.

    The mass is ``p_first(y) - p_second(y)`` of the true class y: near 1 for an example that the
    first was sure of and right, and the second rules out.
    """
    targets = second.targets[:, None]
    p, q = (one.logits.double().softmax(-1) for one in (first, second))
    before, after = p.gather(-1, targets)[:, 0], q.gather(-1, targets)[:, 0]
    was, said = (one.logits.argmax(-1) for one in (first, second))
    was_right, is_right, mass = was == second.targets, said == second.targets, before - after

    def sorted_rows(chosen: Tensor, value: Tensor) -> Tensor:
        rows = chosen.nonzero()[:, 0]
        return rows[value[rows].argsort(descending=True, stable=True)]

    return Moved(
        sorted_rows(was_right & ~is_right, mass),
        sorted_rows(~was_right & is_right, -mass),
        mass,
        before,
        said,
        q.amax(-1),
    )


def by_slice(
    first: Tensor, second: Tensor, numbers: Tensor, names: Sequence[str], *, level: float
) -> list[dict[str, Any]]:
    """What was lost and gained in every class or group, and where more than elsewhere.

    Args:
        first: Which examples the first model got right, ``(N,)`` of bool.
        second: Which the second did.
        numbers: The slice of each example ``(N,)``, negative where it has none.
        names: Of the slices.
        level: Of all intervals together: each is wider (Bonferroni).

    Returns:
        For each slice with examples its counts; ``drop``, accuracy lost, with Newcombe's interval;
        ``more``, the drop minus that of all other examples, with an interval from theirs (the
        square-and-add rule, Zou and Donner 2008), None where there are no others; ``clear``,
        whether that lies above 0.
    """
    known = numbers >= 0
    present = [place for place in range(len(names)) if bool((numbers == place).any())]
    strict = 1 - (1 - level) / max(len(present), 1)
    rows = []
    for place in present:
        inside = numbers == place
        drop = _drop(first[inside], second[inside], strict)
        others = known & ~inside
        more = None
        if bool(others.any()):
            more = _minus(drop, _drop(first[others], second[others], strict))
        rows.append(
            {
                "name": str(names[place]),
                "examples": int(inside.sum()),
                "lost": int((first & ~second & inside).sum()),
                "gained": int((~first & second & inside).sum()),
                "drop": drop.as_dict(),
                "more": None if more is None else more.as_dict(),
                "clear": more is not None and more.low > 0 and drop.low > 0,
            }
        )
    return rows


def confusions(
    first: Predictions, second: Predictions, *, level: float, most: int
) -> list[dict[str, Any]]:
    """The mistakes (true class, answered class) that the second model makes more often.

    Each is tested: of the examples of that class of which one model says the answered class and
    the other does not, are more the second's than a fair coin would give (exact, one-sided), after
    allowing for the number of mistakes that any model makes at all (Bonferroni)?

    Returns:
        At most ``most`` rows, the largest increase first.
    """
    classes, targets = second.classes, second.targets
    size = len(classes)
    answers = [one.logits.argmax(-1) for one in (first, second)]
    counts = [torch.bincount(targets * size + one, minlength=size * size) for one in answers]
    apart = answers[0] != answers[1]
    only = [torch.bincount((targets * size + one)[apart], minlength=size * size) for one in answers]
    mistakes = ~torch.eye(size, dtype=torch.bool).flatten()
    tested = max(int((mistakes & (counts[0] + counts[1] > 0)).sum()), 1)
    more = torch.where(mistakes, counts[1] - counts[0], 0)
    rows = []
    for place in more.argsort(descending=True, stable=True)[:most].tolist():
        if more[place] <= 0:
            break
        was, now = int(only[0][place]), int(only[1][place])
        p = binomial_half_tail(was, was + now)
        rows.append(
            {
                "true": str(classes[place // size]),
                "answered": str(classes[place % size]),
                "before": int(counts[0][place]),
                "after": int(counts[1][place]),
                "p": min(1.0, p * tested),
                "clear": p * tested < 1 - level,
            }
        )
    return rows


def _drop(first: Tensor, second: Tensor, level: float) -> Interval:
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return newcombe(*(int(count.sum()) for count in counts), level=level)


def _minus(first: Interval, second: Interval) -> Interval:
    """The difference of two independent figures, each with its interval."""
    mean = first.mean - second.mean
    low = mean - math.hypot(first.mean - first.low, second.high - second.mean)
    high = mean + math.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(mean, low, high, first.level, "square-and-add of Newcombe's intervals")
