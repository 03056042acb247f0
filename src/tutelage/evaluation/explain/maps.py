"""Maps of where models look: how alike two are, and how sharp one is. Pure functions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.errors import DataError


def resized(maps: Tensor, high: int, wide: int) -> Tensor:
    """Maps ``(N, h, w)`` as ``(N, high, wide)`` of float64, bilinear; none falls below 0."""
    checked = _checked(maps)[:, None]
    if checked.shape[2:] == (high, wide):
        return checked[:, 0]
    found = F.interpolate(
        checked, (high, wide), mode="bilinear", align_corners=False, antialias=True
    )
    return found[:, 0].clamp(min=0)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between the maps of each example, ``(N,)``; NaN for an empty map.

    1 for maps that are alike up to a factor. Maps of no negative numbers are never opposite: two
    that have nothing to do with each other reach far above 0, so it needs a control.

    Example:
        >>> cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[2.0, 0.0]]])).tolist()
        [1.0]
    """
    a, b = _pair(first, second)
    length = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(length > 0, (a * b).sum(1) / length, math.nan)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of the maps of each example, ``(N,)``; NaN for a flat map.

    Pearson's correlation of the ranks, equal values sharing the mean of theirs: whether the two
    put the places in the same order, however strongly.

    Example:
        >>> one, other = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[9.0, 50.0, 60.0]]])
        >>> round(rank_correlation(one, other).item(), 6)
        1.0
    """
    a, b = (_ranks(one) for one in _pair(first, second))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    length = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(length > 0, (a * b).sum(1) / length, math.nan)


def spread(maps: Tensor) -> Tensor:
    """Entropy of each map as shares, over the most there can be, ``(N,)``; NaN for an empty map.

    ``-sum p log p / log P``: 0 for one single place, 1 for all P places alike.

    Example:
        >>> spread(torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[5.0, 0.0], [0.0, 0.0]]])).tolist()
        [1.0, 0.0]
    """
    flat = _checked(maps).flatten(1)
    if flat.shape[1] < 2:
        raise DataError("a map of one place is neither sharp nor blurred: two are needed.")
    total = flat.sum(1, keepdim=True)
    entropy = torch.special.entr(flat / total).sum(1) / math.log(flat.shape[1])
    return torch.where(total[:, 0] > 0, entropy, math.nan)


def gini(maps: Tensor) -> Tensor:
    """Gini's index of each map, ``(N,)``; NaN for an empty one.

    ``sum_i (2 i - P - 1) v_i / (P sum v)`` over sorted values: 0 for all places alike, towards 1
    for one single place.

    Example:
        >>> gini(torch.tensor([[[1.0, 1.0]], [[0.0, 8.0]]])).tolist()
        [0.0, 0.5]
    """
    flat = _checked(maps).flatten(1).sort(1).values
    places = flat.shape[1]
    weight = 2 * torch.arange(1, places + 1, dtype=torch.float64) - places - 1
    total = flat.sum(1)
    return torch.where(total > 0, (flat * weight).sum(1) / (places * total), math.nan)


def cells(maps: Tensor, side: int) -> Tensor:
    """Share of each map that lies in each cell of a grid, ``(N, side * side)``; NaN if empty."""
    kept = F.adaptive_avg_pool2d(_checked(maps)[:, None], side).flatten(1)
    total = kept.sum(1, keepdim=True)
    return torch.where(total > 0, kept / total, math.nan)


def _ranks(values: Tensor) -> Tensor:
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above).double() / 2


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape:
        raise DataError(
            f"maps of shapes {tuple(first.shape)} and {tuple(second.shape)} were given: bring "
            "both to one size first (see `resized`)."
        )
    return _checked(first).flatten(1).contiguous(), _checked(second).flatten(1).contiguous()


def _checked(maps: Tensor) -> Tensor:
    if maps.ndim != 3 or maps.numel() == 0:
        raise DataError(f"maps of shape {tuple(maps.shape)} were given: (N, H, W) is needed.")
    maps = maps.detach().cpu().double()
    if not bool((maps >= 0).all()) or not bool(maps.isfinite().all()):
        raise DataError("some maps hold negative numbers, NaN or infinity.")
    return maps
