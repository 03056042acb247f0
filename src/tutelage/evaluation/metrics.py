"""How good and how honest a classifier's answers are: pure functions of logits and targets.

Everything is computed in float64 and, where probabilities are concerned, from log-probabilities.
Where several classes share the highest logit, the one with the lowest number is the answer, so a
model that says the same about everything is never counted as right by luck.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of examples whose likeliest class is the true one.

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.

    Returns:
        A share in [0, 1].

    Raises:
        DataError: Shapes do not fit, targets are unlabelled, or logits are no numbers.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        0.5
    """
    return top_k(logits, targets, 1)


def top_k(logits: Tensor, targets: Tensor, k: int) -> float:
    """Share of examples whose true class is among the k likeliest.

    Example:
        >>> top_k(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1]), k=2)
        1.0
    """
    logits, targets = checked(logits, targets)
    if not 1 <= k <= logits.shape[1]:
        raise DataError(f"k is {k}, and there are {logits.shape[1]} classes: give 1 <= k <= that.")
    return _rank(logits, targets).lt(k).double().mean().item()


def right(logits: Tensor, targets: Tensor) -> Tensor:
    """Which examples are answered rightly, ``(N,)`` of bool."""
    logits, targets = checked(logits, targets)
    return logits.argmax(-1) == targets


def nll(logits: Tensor, targets: Tensor) -> float:
    """Negative log-likelihood of the true class, mean over examples, in nats.

    ``mean(-log softmax(z)[y])``: 0 for a certain and right model, log C for one that knows
    nothing, without bound for one that is certain and wrong.

    Example:
        >>> round(nll(torch.zeros(1, 4), torch.tensor([2])), 4)  # log 4
        1.3863
    """
    logits, targets = checked(logits, targets)
    return _log_true(logits, targets).neg().mean().item()


def brier(logits: Tensor, targets: Tensor) -> float:
    """Squared distance of the probabilities from the truth, ``mean(sum_c (p_c - 1[c = y])²)``.

    In [0, 2], the multi-class form of Brier (1950); some books halve it for two classes.

    Example:
        >>> brier(torch.zeros(1, 2), torch.tensor([0]))
        0.5
    """
    logits, targets = checked(logits, targets)
    truth = torch.nn.functional.one_hot(targets, logits.shape[1])
    return (logits.softmax(-1) - truth).square().sum(-1).mean().item()


@dataclass(frozen=True)
class Reliability:
    """Examples in bins of confidence: how sure the model was, and how often it was right.

    Attributes:
        confidence: Mean probability of the answered class in each bin, ``(B,)``; 0 where empty.
        accuracy: Share of right answers in each bin, ``(B,)``; 0 where empty.
        count: Examples in each bin, ``(B,)``.
    """

    confidence: Tensor
    accuracy: Tensor
    count: Tensor

    @property
    def error(self) -> float:
        """Mean distance of confidence and accuracy over all examples: the ECE of these bins."""
        distance = (self.confidence - self.accuracy).abs()
        return ((distance * self.count).sum() / self.count.sum()).item()


def reliability(
    logits: Tensor, targets: Tensor, *, bins: int = 15, equal_mass: bool = False
) -> Reliability:
    """Confidence against accuracy in bins, for a reliability diagram and for `ece`.

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.
        bins: How many.
        equal_mass: Bins of near equal numbers of examples in place of equal width; examples of
            equal confidence always share a bin, so the result does not depend on their order.
    """
    logits, targets = checked(logits, targets)
    log_confidence, answer = logits.log_softmax(-1).max(-1)
    confidence = log_confidence.exp()
    place = bin_places(confidence, bins, equal_mass=equal_mass)
    count = torch.bincount(place, minlength=bins).double()
    filled = count.clamp(min=1)
    sure = torch.bincount(place, confidence, minlength=bins) / filled
    hits = torch.bincount(place, (answer == targets).double(), minlength=bins) / filled
    return Reliability(sure, hits, count)


def bin_places(shares: Tensor, bins: int, *, equal_mass: bool = False) -> Tensor:
    """Which bin each number in [0, 1] falls into, ``(N,)`` of int64: see `reliability`.

    Example:
        >>> bin_places(torch.tensor([0.0, 0.1, 0.5, 0.51, 1.0]), 2).tolist()
        [0, 0, 0, 1, 1]
    """
    if bins < 1:
        raise DataError(f"bins is {bins}, and at least 1 is needed.")
    if equal_mass:
        ordered = shares.sort().values
        last = torch.arange(1, bins + 1, dtype=torch.float64) * len(ordered) / bins
        upper = ordered[last.ceil().long() - 1]
        place = torch.searchsorted(upper, shares)
    else:
        # Bins are (lower, upper], as in Guo et al. (2017).
        place = (shares * bins).ceil().long() - 1
    return place.clamp(0, bins - 1)


def ece(logits: Tensor, targets: Tensor, *, bins: int = 15, equal_mass: bool = False) -> float:
    """Expected calibration error: by how much confidence and accuracy differ, on average.

    ``sum_b |B_b| / N · |accuracy(B_b) - confidence(B_b)|`` over bins of confidence. 0 means that
    of all answers given with 80 % confidence, 80 % are right.

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.
        bins: How many bins of equal width on [0, 1].
        equal_mass: Bins of equal numbers of examples instead (Nguyen and O'Connor 2015,
            arXiv 1508.05154): steadier where most answers are near certain.

    Returns:
        A difference of shares, in [0, 1]. It is biased upwards on few examples.

    Example:
        >>> round(ece(torch.tensor([[9.0, -9.0], [9.0, -9.0]]), torch.tensor([0, 1])), 3)
        0.5

    Paper: Naeini et al., AAAI 2015; Guo et al., ICML 2017, arXiv 1706.04599.
    """
    return reliability(logits, targets, bins=bins, equal_mass=equal_mass).error


def per_class_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of right answers among the examples of each class, ``(C,)``; NaN for an absent class.

    Example:
        >>> per_class_accuracy(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 0])).tolist()
        [0.5, 1.0, nan]
    """
    logits, targets = checked(logits, targets)
    hits = (logits.argmax(-1) == targets).double()
    classes = logits.shape[1]
    count = torch.bincount(targets, minlength=classes).double()
    return torch.bincount(targets, hits, minlength=classes) / count


def checked(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits as float64 and targets as int64 on the CPU, or one line on what is wrong with them."""
    if logits.ndim != 2 or targets.ndim != 1 or len(logits) != len(targets):
        raise DataError(
            f"logits of shape {tuple(logits.shape)} and targets of shape {tuple(targets.shape)} "
            "were given: logits (N, C) and class numbers (N,) are needed."
        )
    if len(logits) == 0:
        raise DataError("there are no examples: a metric needs at least one.")
    if targets.is_floating_point():
        raise DataError(f"targets are {targets.dtype}: class numbers of int64 are needed.")
    unlabelled = int((targets < 0).sum())
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(targets)} examples are unlabelled (target -1): "
            "evaluate on labelled examples only."
        )
    if int(targets.max()) >= logits.shape[1]:
        raise DataError(
            f"there is a target {int(targets.max())}, and the logits have {logits.shape[1]} "
            f"classes: targets must be 0 to {logits.shape[1] - 1}."
        )
    return usable(logits), targets.detach().cpu().long()


def usable(logits: Tensor) -> Tensor:
    """Logits as float64 on the CPU; NaN, or an infinite score, is refused (-inf means never)."""
    logits = logits.detach().cpu().double()
    lost = int(broken(logits).sum())
    if lost:
        raise DataError(
            f"the logits of {lost} of {len(logits)} examples are NaN or infinite: "
            "the model is broken, or its numbers overflowed."
        )
    return logits


def broken(logits: Tensor) -> Tensor:
    """Which rows hold NaN or +inf, or rule every class out: no answer at all, ``(N,)`` of bool."""
    return (logits.isnan() | logits.isposinf()).any(-1) | logits.isneginf().all(-1)


def _log_true(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def _rank(logits: Tensor, targets: Tensor) -> Tensor:
    own = logits.gather(-1, targets[:, None])
    earlier = torch.arange(logits.shape[1]) < targets[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(-1)
