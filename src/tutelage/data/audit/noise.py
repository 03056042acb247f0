"""How many labels are as good as drawn at random."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DROP = 1.92
"""Fall of the log-likelihood at the ends of a 95 % profile interval: half of chi-squared's 3.84."""
_CHUNK = 8192


@dataclass(frozen=True)
class Noise:
    """An estimate of label noise.

    Attributes:
        share: Of the labels that say nothing, some of which are right by luck.
        low: Lower end of its 95 % interval.
        high: Upper end.
        sharpness: What scores are multiplied by before the softmax.
    """

    share: float
    low: float
    high: float
    sharpness: float


def noise_share(scores: Tensor, targets: Tensor) -> Noise:
    """The share w of labels drawn at random that explains given labels best.

    Maximum likelihood of ``p(label | x) = (1 - w) softmax(t scores)[label] + w / C`` over the
    sharpness t and w; the interval is w's profile likelihood. Classes that are hard to tell apart
    make t small and leave w at 0; only labels that contradict a sure classifier raise it. It is
    blind to errors of one kind (all cats labelled dogs), which look like a hard class.

    Args:
        scores: Out of fold ``(N, C)``, of any scale.
        targets: Labels ``(N,)``.

    Example:
        >>> margin = torch.linspace(-6, 6, 2000)
        >>> labels = (margin > 0).long()
        >>> labels[:40] = 1  # 2 % wrong: 4 % drawn at random, half of them right by luck
        >>> found = noise_share(torch.stack([-margin, margin], 1), labels)
        >>> found.low < 0.04 < found.high
        True
    """
    unit = float(scores.double().std().clamp_min(1e-12))
    scores = scores.double() / unit
    shares = torch.cat([torch.zeros(1), torch.logspace(-5, math.log10(0.5), 71)]).double()
    coarse = torch.logspace(-1, 2, 31).double()
    losses = _losses(scores, targets, coarse, shares)
    middle = coarse[int(losses.amin(1).argmin())]
    fine = middle * torch.linspace(0.8, 1.25, 46).double()
    losses = _losses(scores, targets, fine, shares)
    profile = losses.amin(0)
    best = int(profile.argmin())
    inside = (profile <= profile[best] + DROP).nonzero().flatten()
    sharpness = float(fine[int(losses[:, best].argmin())]) / unit
    return Noise(
        float(shares[best]),
        float(shares[int(inside.min())]),
        float(shares[int(inside.max())]),
        sharpness,
    )


def _losses(scores: Tensor, targets: Tensor, sharpness: Tensor, shares: Tensor) -> Tensor:
    """Negative log-likelihood ``(T, W)``."""
    total = torch.zeros(len(sharpness), len(shares), dtype=torch.float64)
    kinds = scores.shape[1]
    for part, labels in zip(torch.split(scores, _CHUNK), torch.split(targets, _CHUNK), strict=True):
        for row, t in enumerate(sharpness):
            own = torch.log_softmax(t * part, 1).gather(1, labels[:, None]).exp()
            total[row] -= ((1 - shares) * own + shares / kinds).clamp_min(1e-300).log().sum(0)
    return total
