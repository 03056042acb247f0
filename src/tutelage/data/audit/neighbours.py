"""Exact nearest neighbours by tiled matrix products: memory bounded, one core is enough."""

import torch
from torch import Tensor

_ROWS, _COLUMNS, _BLOCK = 1024, 16_384, 64  # of a tile; columns of which first the best is sought


def nearest(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest others of each row.

    Candidates come from ``|x|² + |y|² - 2 x·y``; their distances are then taken from differences,
    since the former loses all digits where two rows are nearly the same.

    Args:
        rows: ``(N, D)`` of float32, N > k.
        k: How many.

    Returns:
        Euclidean distances ``(N, k)``, ascending, and positions ``(N, k)``.

    Example:
        >>> distances, places = nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1)
        >>> distances[:, 0].tolist(), places[:, 0].tolist()
        ([1.0, 1.0, 4.0], [1, 0, 1])
    """
    rows = rows - rows.mean(0)  # far from the middle the products would lose their digits
    half = (rows * rows).sum(1) / 2
    distances, places = [], []
    for start in range(0, len(rows), _ROWS):
        asked = rows[start : start + _ROWS]
        found = _candidates(asked, rows, half, start, k)
        apart = (rows[found] - asked[:, None]).norm(dim=2)
        order = apart.sort(dim=1, stable=True).indices
        distances.append(apart.gather(1, order))
        places.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(places)


def _candidates(asked: Tensor, rows: Tensor, half: Tensor, start: int, k: int) -> Tensor:
    closeness, places = [], []
    for first in range(0, len(rows), _COLUMNS):
        others = rows[first : first + _COLUMNS]
        tile = torch.addmm(-half[None, first : first + _COLUMNS], asked, others.T)
        low, high = max(start, first), min(start + len(asked), first + len(others))
        if low < high:
            own = torch.arange(low, high)
            tile[own - start, own - first] = -torch.inf
        values, found = _largest(tile, min(k, tile.shape[1]))
        closeness.append(values)
        places.append(found + first)
    best = torch.cat(closeness, 1).topk(k).indices
    return torch.cat(places, 1).gather(1, best)


def _largest(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``tile.topk(k)``, several times faster for wide tiles.

    The k largest lie in the k blocks of columns with the largest maxima: only these are sorted.
    """
    count, width = tile.shape
    whole = width // _BLOCK * _BLOCK
    if width < 4 * k * _BLOCK:
        values, places = tile.topk(k)
        return values, places
    blocks = tile[:, :whole].view(count, -1, _BLOCK)
    chosen = blocks.amax(2).topk(k).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    columns = (chosen[:, :, None] * _BLOCK + torch.arange(_BLOCK)).flatten(1)
    rest = torch.arange(whole, width).expand(count, -1)
    values, best = torch.cat([inside, tile[:, whole:]], 1).topk(k)
    return values, torch.cat([columns, rest], 1).gather(1, best)
