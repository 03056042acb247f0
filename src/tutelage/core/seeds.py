"""Every random choice, from one seed.

Two tools: `derive` makes a seed for a named purpose, and `uniform` gives numbers that depend on
nothing but (seed, stream, example id), so that the same view of an example can be made again at
any time, in any batch, by any process.
"""

import hashlib

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def derive(seed: int, *purpose: str | int) -> int:
    """A seed in ``[0, 2**63)`` for one purpose: ``derive(0, "order", epoch)``.

    >>> derive(0, "order", 1) == derive(0, "order", 1) != derive(0, "order", 2)
    True
    """
    text = "\x1f".join([str(seed), *(f"{type(p).__name__}:{p}" for p in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A torch generator (CPU) for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def uniform(seed: int, ids: Tensor, draws: int = 1) -> Tensor:
    """Numbers in [0, 1), a function of (seed, id, draw) alone (SplitMix64 finaliser).

    Args:
        seed: Any integer, usually from `derive`.
        ids: Example numbers ``(N,)`` of int64.
        draws: Numbers wanted for each example.

    Returns:
        ``(N, draws)`` of float32, 24 random bits each.

    Example:
        >>> both = uniform(7, torch.tensor([3, 5]), 2)
        >>> bool((both[1] == uniform(7, torch.tensor([5]), 2)[0]).all())
        True
    """
    draw = torch.arange(1, draws + 1, device=ids.device)
    # Hash the id before the draw is added: streams of neighbouring ids must not overlap.
    start = _mix(_mix(ids.long() + derive(seed, "offset")) ^ derive(seed, "stream"))
    bits = _mix(start[:, None] + draw * _GOLDEN)
    return ((bits >> 40) & 0xFFFFFF).float() / 2**24


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    # torch shifts signed numbers arithmetically: mask the copied sign bits away.
    return (x >> bits) & ((1 << (64 - bits)) - 1)
