"""Has a model learned anything? A collapsed student must be noticed, and said."""

import math

import torch
from torch import Tensor

from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.metrics import broken, checked

_ALMOST_ALL = 0.995
_SURE = normal_quantile(0.998)  # one-sided 99.9 %


def collapsed(logits: Tensor, targets: Tensor, classes: tuple[str, ...]) -> str | None:
    """Say in one clause why these answers are those of a model that learned nothing, or None.

    Collapsed is: NaN or infinite answers; one and the same class for (nearly) all examples where
    the truth is more varied; or right answers no more frequent, at 99.9 %, than if the same
    answers were dealt to the examples at random. The last test is fair to rare classes: a model
    that is hardly more accurate than always naming the frequent class may still have learned.

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.
        classes: Their C names.

    Example:
        >>> collapsed(torch.zeros(100, 2), torch.arange(100) % 2, ("cat", "dog"))
        "it answers 'cat' to 100.0 % of the examples, whatever they show"
    """
    lost = int(broken(logits).sum())
    if lost:
        return f"its answers to {lost:,} of {len(logits):,} examples are NaN or infinite"
    logits, targets = checked(logits, targets)
    said = torch.bincount(logits.argmax(-1), minlength=len(classes)).double()
    true = torch.bincount(targets, minlength=len(classes)).double()
    total, favourite = len(targets), int(said.argmax())
    if said[favourite] >= _ALMOST_ALL * total and true[favourite] < _ALMOST_ALL * total:
        share = f"{100 * said[favourite].item() / total:.1f} %"
        return f"it answers {classes[favourite]!r} to {share} of the examples, whatever they show"
    hits = int((logits.argmax(-1) == targets).sum())
    expected, variance = _dealt_at_random(said, true, total)
    if variance > 0 and hits <= expected + _SURE * math.sqrt(variance):
        return (
            f"its accuracy of {100 * hits / total:.1f} % cannot be told from guessing "
            f"({100 * expected / total:.1f} %)"
        )
    return None


def _dealt_at_random(said: Tensor, true: Tensor, total: int) -> tuple[float, float]:
    """Mean and variance of the right answers if the answers were shuffled over the examples.

    The diagonal of a table with fixed margins: hypergeometric cells and their covariances.
    """
    if total < 2:
        return float(said @ true), 0.0
    scale = total**2 * (total - 1)
    own = (said * true * (total - said) * (total - true)).sum()
    others = (said @ true) ** 2 - (said * true).square().sum()
    return float(said @ true) / total, float(own + others) / scale
