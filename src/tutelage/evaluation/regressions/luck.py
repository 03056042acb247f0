"""The luck of training: how much two trainings that nobody damaged differ, class by class.

Tests over examples know one kind of luck only: which examples were tested. Two trainings of one
network differ by more: one gives way to shirts where the other gives way to coats, by ten points
at times, at equal accuracy. A difference of the student is remarkable only if it is large beside
those that independent trainings show among themselves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from tutelage.evaluation.distributions import regularised_beta
from tutelage.evaluation.metrics import right
from tutelage.evaluation.subjects import Subjects


@dataclass(frozen=True)
class Luck:
    """What independent trainings show.

    Attributes:
        pairs: Right answers of two independent trainings ``(N,)`` of bool each.
        retrains: Right answers of each training of the student alone.
        same: Whether the pairs are trainings of one network; else the student alone and the
            teacher stand in, whose differences hold those of their sizes too.
    """

    pairs: list[tuple[Tensor, Tensor]]
    retrains: list[Tensor]
    same: bool


@dataclass(frozen=True)
class Scale:
    """By how much test statistics exceed those of examples' luck alone.

    Attributes:
        factor: Mean square of the statistics between independent trainings, at least 1.
        freedom: How many of them there were.
    """

    factor: float
    freedom: int

    def chance(self, z: float) -> float:
        """Probability of a statistic at least so large, one-sided: Student's t of ``z / sqrt``.

        Example:
            >>> round(Scale(4.0, 10).chance(4.0), 4)  # t = 2 with 10 degrees of freedom
            0.0367
        """
        if not self.freedom:
            return 1.0
        t = z / math.sqrt(self.factor)
        tail = regularised_beta(self.freedom / 2, 0.5, self.freedom / (self.freedom + t * t)) / 2
        return tail if t > 0 else 1 - tail


def luck(subjects: Subjects) -> Luck | None:
    """What is known of the luck of training: None where the student was not trained alone."""
    if "baseline" not in subjects.models:
        return None

    def hits(role: str) -> list[Tensor]:
        answers = [subjects.answers(role), *subjects.seeds.get(role, ())]
        return [right(one.logits, one.targets) for one in answers]

    retrains = hits("baseline")
    # The shipped student is on trial: it is no witness.
    others = hits("student")[1:]
    pairs = [*combinations(retrains, 2), *combinations(others, 2)]
    if pairs:
        return Luck(pairs, retrains, same=True)
    return Luck(
        [(retrains[0], hits("teacher")[0])] if "teacher" in subjects.models else [],
        retrains,
        same=False,
    )


def scale(
    found: Luck, statistic: Callable[[Tensor, Tensor, Tensor], float], subsets: Sequence[Tensor]
) -> Scale:
    """How large a statistic gets between independent trainings, over subsets of the examples.

    The overdispersion of a quasi-likelihood: the mean of z², which is 1 where only the luck of
    examples is at work (McCullagh and Nelder, "Generalized Linear Models", 1989, 4.5).

    Args:
        found: The independent trainings.
        statistic: Of the hits of two models and a subset: near standard normal by examples' luck.
        subsets: Which examples ``(N,)`` of bool.
    """
    squares = [
        statistic(one, other, subset) ** 2 for one, other in found.pairs for subset in subsets
    ]
    if not squares:
        return Scale(1.0, 0)
    # Subsets overlap and pairs share trainings: no more freedom than there are subsets.
    return Scale(max(1.0, math.fsum(squares) / len(squares)), min(len(subsets), len(squares)))


def against_retrains(
    found: Luck,
    scaled: Scale,
    student: Tensor,
    statistic: Callable[[Tensor, Tensor, Tensor], float],
    subset: Tensor,
) -> float:
    """Probability that training's luck alone makes the student so much worse than its retrains."""
    each = [statistic(alone, student, subset) for alone in found.retrains]
    return scaled.chance(math.fsum(each) / len(each))


def paired_z(first: Tensor, second: Tensor, subset: Tensor) -> float:
    """McNemar's statistic in a subset: ``(b - c) / sqrt(b + c)``, above 0 where the first wins.

    Args:
        first: Which examples one model gets right ``(N,)`` of bool.
        second: Which the other ``(N,)``.
        subset: Which are looked at ``(N,)`` of bool.

    Example:
        >>> first = torch.tensor([True, True, True, False])
        >>> paired_z(first, ~first, torch.ones(4, dtype=torch.bool))
        1.0
    """
    only_first = int((first & ~second & subset).sum())
    only_second = int((~first & second & subset).sum())
    total = only_first + only_second
    return (only_first - only_second) / math.sqrt(total) if total else 0.0


def as_mask(rows: Tensor, total: int) -> Tensor:
    """Row numbers as ``(N,)`` of bool."""
    mask = torch.zeros(total, dtype=torch.bool)
    mask[rows] = True
    return mask


def beyond_luck(found: Luck | None, student: Tensor, subsets: Sequence[Tensor]) -> list[float]:
    """For each subset `against_retrains` of `paired_z`; empty where nothing is known of luck.

    Args:
        found: The independent trainings.
        student: Which examples the student gets right ``(N,)`` of bool.
        subsets: Row numbers of each.
    """
    if found is None:
        return []
    masks = [as_mask(rows, len(student)) for rows in subsets]
    scaled = scale(found, paired_z, masks)
    return [against_retrains(found, scaled, student, paired_z, mask) for mask in masks]
