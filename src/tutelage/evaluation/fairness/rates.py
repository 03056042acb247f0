r"""How differently a classifier treats groups: pure functions of answers, truths and groups.

With group :math:`a`, truth :math:`y`, answer :math:`\hat y` and a class :math:`c` against the rest:

.. math::
    selection_{a,c} = P(\hat y = c \mid a), \quad
    tpr_{a,c} = P(\hat y = c \mid y = c, a), \quad
    fpr_{a,c} = P(\hat y = c \mid y \ne c, a)

A difference between groups is the largest rate less the smallest. Of two classes both give the
same differences; of more, the worst class counts (one against the rest): that is a choice of this
room, where the definitions know two classes alone. A group without examples of the kind in question
has no such rate: it is NaN, and left out of differences. (fairlearn counts such a rate as 0, which
makes a difference of a group about which nothing is known.)

Papers: Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning, 2016, arXiv
1610.02413; Agarwal et al.: A Reductions Approach to Fair Classification, 2018, arXiv 1803.02453.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.metrics import checked

MEASURES = ("accuracy", "selection", "odds")
"""What groups are compared by: accuracy, demographic parity, equalised odds."""


@dataclass(frozen=True)
class Tally:
    """Examples counted by group and class; all rates follow. Leading dimensions are resamples.

    Attributes:
        true: Examples whose class it is, ``(..., G, C)`` of float64.
        said: Examples answered with it, ``(..., G, C)``.
        right: Both, ``(..., G, C)``.
    """

    true: Tensor
    said: Tensor
    right: Tensor

    @property
    def examples(self) -> Tensor:
        """In each group, ``(..., G)``."""
        return self.true.sum(-1)

    @property
    def accuracy(self) -> Tensor:
        """Share of right answers in each group, ``(..., G)``; NaN for an empty group."""
        return self.right.sum(-1) / self.examples

    @property
    def selection(self) -> Tensor:
        """Share of each answer in each group, ``(..., G, C)``; NaN for an empty group."""
        return self.said / self.examples.unsqueeze(-1)

    @property
    def tpr(self) -> Tensor:
        """Share of each class that is recognised, ``(..., G, C)``; NaN where it is absent."""
        return self.right / self.true

    @property
    def fpr(self) -> Tensor:
        """Share of all else that is taken for the class, ``(..., G, C)``; NaN where none is."""
        return (self.said - self.right) / (self.examples.unsqueeze(-1) - self.true)


def tally(logits: Tensor, targets: Tensor, numbers: Tensor, groups: int | None = None) -> Tally:
    """Count answers by group and class.

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.
        numbers: Group of each example ``(N,)`` of int64; negative where it is not known: such
            examples are left out.
        groups: How many groups there are; None for as many as are seen.

    Raises:
        DataError: Shapes do not fit, logits are no numbers, or there is no such group.

    Example:
        >>> said = torch.eye(2)[[1, 0, 1, 1]]
        >>> counted = tally(said, torch.tensor([1, 1, 1, 0]), torch.tensor([0, 0, 1, 1]))
        >>> counted.accuracy.tolist(), counted.tpr[:, 1].tolist(), counted.fpr[:, 1].tolist()
        ([0.5, 0.5], [0.5, 1.0], [nan, 1.0])
    """
    logits, targets = checked(logits, targets)
    if numbers.shape != targets.shape or numbers.is_floating_point():
        raise DataError(
            f"groups of shape {tuple(numbers.shape)} ({numbers.dtype}) were given for "
            f"{len(targets)} examples: one whole number for each is needed."
        )
    known = numbers >= 0
    if not bool(known.any()):
        raise DataError("no example is of a known group: there is nothing to compare.")
    seen = int(numbers.max()) + 1
    if groups is not None and groups < seen:
        raise DataError(f"there is a group {seen - 1}, and {groups} groups: number them from 0.")
    said, truth, of = logits.argmax(-1)[known], targets[known], numbers[known]
    classes, many = logits.shape[1], seen if groups is None else groups

    def count(what: Tensor, group: Tensor) -> Tensor:
        cells = torch.bincount(group * classes + what, minlength=many * classes)
        return cells.double().view(many, classes)

    hit = said == truth
    return Tally(count(truth, of), count(said, of), count(truth[hit], of[hit]))


def rates(counted: Tally, measure: str) -> Tensor:
    """The rates that groups are compared by, ``(..., G, M)``: a measure is the widest column.

    Args:
        counted: Of one model.
        measure: ``accuracy`` (one column), ``selection`` (a column a class), ``odds`` (true
            positives of each class, then false positives). Of two classes the second alone.
    """
    if measure not in MEASURES:
        raise DataError(f"there is no measure {measure!r}: {', '.join(MEASURES)} are known.")
    if measure == "accuracy":
        return counted.accuracy.unsqueeze(-1)
    one = slice(1, 2) if counted.true.shape[-1] == 2 else slice(None)
    if measure == "selection":
        return counted.selection[..., one]
    return torch.cat([counted.tpr[..., one], counted.fpr[..., one]], -1)


def support(counted: Tally, measure: str) -> Tensor:
    """How many examples each of `rates` rests on, ``(..., G, M)``."""
    shape = rates(counted, measure)
    if measure != "odds":
        return counted.examples.unsqueeze(-1).expand_as(shape)
    one = slice(1, 2) if counted.true.shape[-1] == 2 else slice(None)
    others = counted.examples.unsqueeze(-1) - counted.true
    return torch.cat([counted.true[..., one], others[..., one]], -1)


def spread(of_groups: Tensor) -> Tensor:
    """Largest less smallest over groups, ``(..., G, M)`` to ``(..., M)``; NaN with fewer than two.

    >>> spread(torch.tensor([[0.25, 1.0], [0.75, float("nan")]]))
    tensor([0.5000,    nan])
    """
    known = ~of_groups.isnan()
    most = of_groups.masked_fill(~known, -torch.inf).amax(-2)
    least = of_groups.masked_fill(~known, torch.inf).amin(-2)
    return torch.where(known.sum(-2) > 1, most - least, torch.nan)


def gap(counted: Tally, measure: str, *, least: int = 1) -> float | None:
    """The widest difference between two groups; None where no rate is known of two of them.

    Args:
        counted: Of one model.
        measure: See `MEASURES`.
        least: Examples that a rate must rest on to be compared.
    """
    few = support(counted, measure) < least
    widths = spread(rates(counted, measure).masked_fill(few, torch.nan))
    known = widths[~widths.isnan()]
    return known.max().item() if len(known) else None


def accuracy_gap(counted: Tally) -> float | None:
    """Accuracy of the best group less that of the worst; None with fewer than two groups."""
    return gap(counted, "accuracy")


def demographic_parity_difference(counted: Tally) -> float | None:
    """Largest difference of a selection rate between two groups, over classes; in [0, 1].

    0 where every group gets every answer equally often, whatever the truth is.

    Example:
        >>> said = torch.eye(2)[[1, 1, 1, 0]]
        >>> truth, groups = torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 1, 1])
        >>> demographic_parity_difference(tally(said, truth, groups))
        0.5
    """
    return gap(counted, "selection")


def equalised_odds_difference(counted: Tally) -> float | None:
    """Largest difference of a true or false positive rate between two groups, over classes.

    0 where, among examples of the same truth, every group gets every answer equally often.

    Example:
        >>> said = torch.eye(2)[[1, 0, 1, 0]]
        >>> truth, groups = torch.tensor([1, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
        >>> equalised_odds_difference(tally(said, truth, groups))
        1.0
    """
    return gap(counted, "odds")


def worst_group(counted: Tally) -> tuple[int, float]:
    """Number and accuracy of the group with the lowest accuracy; empty groups do not count."""
    known = counted.accuracy.nan_to_num(nan=torch.inf)
    place = int(known.argmin())
    return place, known[place].item()
