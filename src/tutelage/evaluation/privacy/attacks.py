"""Guessing who was in the training data: scores of one example, higher for a likelier member."""

import math

import torch
from torch import Tensor

from tutelage.core.errors import DataError


def loss_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of the true class, ``log p_y(x)``: members have low losses.

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.

    Returns:
        ``(N,)`` of float64.

    Example:
        >>> loss_scores(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).exp().item()
        0.5

    Paper: Yeom et al., arXiv 1709.01604.
    """
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or not len(targets):
        raise DataError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} were given: (N, C) "
            "and (N,) are needed."
        )
    if not bool(logits.isfinite().all()):
        raise DataError("some logits are NaN or infinite: they have no loss.")
    if not bool(((targets >= 0) & (targets < logits.shape[1])).all()):
        raise DataError(f"targets must be class numbers from 0 to {logits.shape[1] - 1}.")
    known = logits.detach().cpu().double().log_softmax(-1)
    return known.gather(-1, targets.cpu()[:, None])[:, 0]


def ratios(log_p: Tensor, log_out: Tensor, a: float = 0.3) -> Tensor:
    """How much likelier an example is to this model than to models that never saw it.

    ``log p(x) / p̄(x)`` with ``p̄ = ((1 + a) p_out + (1 - a)) / 2``: what a model would think on
    average of having seen the example or not, guessed from models that have not (offline).

    Args:
        log_p: Of the model on trial, ``log p_y(x)``, ``(N,)``.
        log_out: Of R models that never saw the examples, ``(R, N)``.
        a: In [0, 1]; 1 takes what others think as it is, 0 half way to certainty.

    Returns:
        ``(N,)`` of float64.

    Example:
        >>> round(ratios(torch.tensor([0.0]), torch.tensor([[0.5]]).log(), 1.0).exp().item(), 6)
        2.0

    Paper: Zarifzadeh, Liu and Shokri, arXiv 2312.03262.
    """
    if log_out.ndim != 2 or log_out.shape[1:] != log_p.shape or not len(log_out):
        raise DataError(
            f"{tuple(log_p.shape)} and reference {tuple(log_out.shape)} were given: (N,) and "
            "(R, N) of at least one reference model are needed."
        )
    if not 0 <= a <= 1:
        raise DataError(f"a is {a}: give a number in [0, 1].")
    out = log_out.double().logsumexp(0) - math.log(len(log_out))
    half = torch.full_like(out, 0.0 if a == 1 else (1 - a) / 2)
    return log_p.double() - torch.logaddexp(math.log((1 + a) / 2) + out, half.log())


def ratio_scores(ratio: Tensor, population: Tensor, gamma: float = 1.0) -> Tensor:
    """The share of other people that an example stands out from.

    ``Pr_z [ (p(x)/p̄(x)) / (p(z)/p̄(z)) > γ ]``

    Args:
        ratio: ``log p / p̄`` of the examples asked about ``(N,)``.
        population: The same of examples known not to be members ``(Z,)``.
        gamma: γ, above 0: how much it must stand out.

    Returns:
        ``(N,)`` of float64 in [0, 1].

    Example:
        >>> ratio_scores(torch.tensor([0.5]), torch.tensor([0.0, 0.2, 0.7, 0.9])).item()
        0.5

    Paper: Zarifzadeh, Liu and Shokri, arXiv 2312.03262 (RMIA).
    """
    if gamma <= 0 or not len(population):
        raise DataError(f"gamma {gamma} and {len(population)} others: both must be above 0.")
    ordered = (population.double() + math.log(gamma)).sort().values
    return torch.searchsorted(ordered, ratio.double()).double() / len(ordered)


def by_class(log_p: Tensor, targets: Tensor, classes: int) -> Tensor:
    """``log`` of the mean probability of the true class, class by class, ``(classes,)``.

    The stand-in for reference models: what this very model thinks of strangers of that class. A
    class without an example gets the mean over all.

    >>> by_class(torch.tensor([0.5, 0.1]).log(), torch.tensor([0, 0]), 1).exp()
    tensor([0.3000], dtype=torch.float64)
    """
    if not len(log_p):
        raise DataError("the mean over no example was asked for: give at least one.")
    p = log_p.double().exp()
    count = torch.bincount(targets, minlength=classes).double()
    total = torch.zeros(classes, dtype=torch.float64).index_add(0, targets, p)
    mean = torch.where(count > 0, total / count.clamp(min=1), p.mean())
    return mean.clamp(min=1e-300).log()
