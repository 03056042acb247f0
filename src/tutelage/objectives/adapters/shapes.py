"""How features of different kinds are laid out, and how one becomes another.

Vectors are ``(N, D)``, tokens ``(N, T, D)``, maps ``(N, C, H, W)``.
"""

from collections.abc import Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.errors import ShapeMismatch

Size = tuple[int, int]
"""Height and width."""


def require(feature: Tensor, dims: int, adapter: str, whose: str) -> None:
    """Refuse a feature with another number of dimensions than ``adapter`` works on."""
    forms = {2: "vectors (N, D)", 3: "tokens (N, T, D)", 4: "maps (N, C, H, W)"}
    if feature.ndim != dims:
        raise ShapeMismatch(
            f"adapter {adapter!r} needs {forms[dims]} from the {whose}, and got "
            f"{tuple(feature.shape)}: use adapter auto, or choose another feature."
        )


def grid_of(tokens: int, like: Size | None = None) -> tuple[Size, int] | None:
    """Which grid of positions ``tokens`` are, and how many leading (class) tokens stand before.

    Args:
        tokens: T, the number of tokens.
        like: A grid to prefer where the number fits it, also with leading tokens.

    Returns:
        Height and width, and the number of leading tokens, at most two (class and distillation
        token); None where it is no square grid.

    Example:
        >>> grid_of(197), grid_of(49), grid_of(33, like=(8, 4)), grid_of(8)
        (((14, 14), 1), ((7, 7), 0), ((8, 4), 1), None)
    """
    if like and 0 <= tokens - like[0] * like[1] <= 2:
        return like, tokens - like[0] * like[1]
    for leading in range(3):
        side = isqrt(max(tokens - leading, 0))
        if side > 1 and side * side == tokens - leading:
            return (side, side), leading
    return None


def to_map(tokens: Tensor, grid: Size, leading: int) -> Tensor:
    """Tokens without their leading ones as a map: ``(N, T, D)`` -> ``(N, D, H, W)``."""
    patches = tokens[:, leading:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], *grid)


def to_tokens(feature: Tensor, leading: int) -> Tensor:
    """A map as tokens ``(N, leading + H * W, C)``; leading tokens are the map's mean."""
    tokens = feature.flatten(2).transpose(1, 2)
    if leading == 0:
        return tokens
    mean = tokens.mean(1, keepdim=True).expand(-1, leading, -1)
    return torch.cat([mean, tokens], dim=1)


def resize(feature: Tensor, size: Sequence[int]) -> Tensor:
    """A map ``(N, C, H, W)`` at another size: averaged where it shrinks, bilinear where it grows.

    Example:
        >>> resize(torch.ones(1, 2, 8, 2), (4, 4)).shape
        torch.Size([1, 2, 4, 4])
    """
    height, width = feature.shape[2:]
    smaller = (min(height, size[0]), min(width, size[1]))
    if smaller != (height, width):
        feature = F.adaptive_avg_pool2d(feature, smaller)
    if smaller != tuple(size):
        feature = F.interpolate(feature, tuple(size), mode="bilinear", align_corners=False)
    return feature
