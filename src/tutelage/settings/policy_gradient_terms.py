"""(No situation) What groups of answers to one prompt are worth against each other."""

from collections.abc import Callable

import torch
from torch import Tensor


def by_deviation(rewards: Tensor) -> Tensor:
    r"""GRPO's advantage (arXiv:2402.03300): :math:`(r - mean) / deviation`, within each group.

    Args:
        rewards: ``(P, g)``: of g answers to each prompt.

    Returns:
        ``(P, g)``; 0 where all answers of a group are worth the same.

    Example:
        >>> by_deviation(torch.tensor([[1.0, 0.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]])).tolist()
        [[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    gaps = rewards - rewards.mean(1, keepdim=True)
    deviation = gaps.square().mean(1, keepdim=True).sqrt()
    # Equal rewards differ by rounding from their mean: that is no difference to be learnt from.
    same = deviation <= 1e-6 * rewards.abs().amax(1, keepdim=True)
    return torch.where(same, 0.0, gaps / torch.where(same, 1.0, deviation))


def by_mean(rewards: Tensor) -> Tensor:
    """The reward less its group's mean ``(P, g)``, as in Dr. GRPO (arXiv:2503.20783).

    >>> by_mean(torch.tensor([[3.0, 1.0]])).tolist()
    [[1.0, -1.0]]
    """
    return rewards - rewards.mean(1, keepdim=True)


def by_others(rewards: Tensor) -> Tensor:
    """The reward less the mean of the others in its group ``(P, g)``: RLOO (arXiv:2402.14740).

    The baseline does not depend on the answer itself, so the gradient keeps its mean.

    >>> by_others(torch.tensor([[3.0, 1.0]])).tolist()
    [[2.0, -2.0]]
    """
    others = rewards.shape[1] - 1
    return rewards - (rewards.sum(1, keepdim=True) - rewards) / others


ADVANTAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "deviation": by_deviation,
    "mean": by_mean,
    "others": by_others,
}
"""From rewards ``(P, g)`` to advantages, by name."""


def reverse_kl_k1(student: Tensor, reference: Tensor) -> Tensor:
    r"""Estimate of KL(q || p) from one draw of q: :math:`k_1 = \log q - \log p`.

    Its mean over draws is the divergence; it may be negative. As a loss it teaches nothing: the
    mean of its gradient is 0.

    Args:
        student: Log-probabilities under q of what q drew, ``(N, T)``.
        reference: Those under p.

    Returns:
        ``(N, T)``, in nats.

    Example:
        >>> reverse_kl_k1(torch.tensor([0.5]).log(), torch.tensor([0.25]).log())
        tensor([0.6931])
    """
    return student - reference


def reverse_kl_k2(student: Tensor, reference: Tensor) -> Tensor:
    r"""Estimate of KL(q || p) from one draw of q: :math:`k_2 = \frac12 (\log q - \log p)^2`.

    Never negative and of small variance, and its mean is the divergence only nearly. The mean of
    its gradient is that of KL(q || p) exactly: the one to learn from.

    Args:
        student: Log-probabilities under q of what q drew, ``(N, T)``.
        reference: Those under p.

    Returns:
        ``(N, T)``, in nats.

    Example:
        >>> reverse_kl_k2(torch.tensor([0.5]).log(), torch.tensor([0.25]).log())
        tensor([0.2402])
    """
    return (student - reference).square() / 2


def reverse_kl_k3(student: Tensor, reference: Tensor) -> Tensor:
    r"""Estimate of KL(q || p) from one draw of q: :math:`k_3 = p/q - 1 - \log (p/q)`.

    Its mean is the divergence, it is never negative, and where q and p are near it varies less
    than k1. The mean of its gradient is that of the other direction, KL(p || q).

    Args:
        student: Log-probabilities under q of what q drew, ``(N, T)``.
        reference: Those under p.

    Returns:
        ``(N, T)``, in nats, at least 0.

    Example:
        >>> reverse_kl_k3(torch.tensor([0.5]).log(), torch.tensor([0.25]).log())
        tensor([0.1931])
    """
    gap = reference - student
    # expm1, not exp - 1: near agreement both terms are far larger than their difference.
    return torch.expm1(gap) - gap


PENALTIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "k2": reverse_kl_k2,
    "k3": reverse_kl_k3,
}
"""Estimates of the divergence from the reference that can be learnt from, by name."""
