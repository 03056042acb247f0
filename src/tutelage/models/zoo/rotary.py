"""Rotary positions.

RoFormer: Enhanced Transformer with Rotary Position Embedding, Su et al., 2021 (arXiv 2104.09864).
"""

import torch
from torch import Tensor

Turns = tuple[Tensor, Tensor]
"""Cosines and sines, each ``(N or 1, 1, T, d)`` of fp32."""


def turns(positions: Tensor, size: int, base: float) -> Turns:
    r"""By how much each pair of numbers of a head is turned at each position.

    .. math:: \theta_{p,i} = p \cdot b^{-2i/d}, \quad i = 0 \dots d/2 - 1

    Number i is paired with number i + d/2, as in Llama; the paper pairs neighbours, which is the
    same but for the order of the numbers in a head.

    Args:
        positions: ``(N or 1, T)``.
        size: d, numbers in a head, even.
        base: b.
    """
    pairs = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32)
    angles = positions[:, None, :, None].float() * base ** (-pairs / size)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def turned(states: Tensor, by: Turns) -> Tensor:
    """Queries or keys ``(N, heads, T, d)``, turned, in their own dtype.

    >>> states = torch.rand(1, 2, 3, 4)
    >>> same = turned(states, turns(torch.zeros(1, 3), 4, 10_000.0))
    >>> torch.equal(same, states)
    True
    """
    cosines, sines = by
    first, second = states.float().chunk(2, dim=-1)
    other = torch.cat([-second, first], dim=-1)
    return (states.float() * cosines + other * sines).to(states.dtype)
