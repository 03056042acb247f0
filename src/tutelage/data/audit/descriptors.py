"""Short rows of numbers in which nearly equal examples are near each other."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.seeds import generator
from tutelage.data.sets import Examples, as_float

SIDE = 16
"""Largest side of the pooled images that are compared first."""
DIRECTIONS = 96
"""Principal directions that are kept of them."""
_SAMPLE = 20_000  # rows that the directions are learnt from
_CHUNK = 1024

Describe = Callable[[Tensor], Tensor]


def chunks(sets: Sequence[Examples]) -> Iterator[Tensor]:
    """The stored inputs of all sets, one after the other, in pieces."""
    for examples in sets:
        for start in range(0, len(examples), _CHUNK):
            yield examples.fetch(torch.arange(start, min(start + _CHUNK, len(examples))))


def pooled(images: Tensor, side: int = SIDE) -> Tensor:
    """Images scaled down by a whole number, to at most ``side``, and laid out as rows.

    >>> pooled(torch.zeros(2, 3, 28, 32)).shape
    torch.Size([2, 672])
    """
    factor = -(-max(images.shape[-2:]) // side)
    return (F.avg_pool2d(images, factor, ceil_mode=True) if factor > 1 else images).flatten(1)


def normalised(rows: Tensor) -> Tensor:
    """Rows without their mean, of length 1: blind to brightness and contrast.

    A constant row becomes zeros. The product of two of them is their correlation.

    >>> normalised(torch.tensor([[0.0, 2.0], [0.1, 0.3], [5.0, 5.0]])).mul(2).round(decimals=2)
    tensor([[-1.4100,  1.4100],
            [-1.4100,  1.4100],
            [ 0.0000,  0.0000]])
    """
    centred = rows - rows.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    # Below rounding there is no picture left.
    return torch.where(length > 1e-4, centred / length.clamp_min(1e-4), torch.zeros(()))


def described(sets: Sequence[Examples], seed: int) -> Tensor:
    """All examples as rows ``(N, at most DIRECTIONS)``, in the order of the sets.

    Images are pooled, normalised and projected on the principal directions of a sample, which hold
    nearly all of what tells them apart and little of a noise that was added to each pixel. Table
    rows are divided by the deviation of each column; columns of 0 and 1 stay as they are.

    Args:
        sets: Of one shape.
        seed: Of the sample.
    """
    describe = _image if len(sets[0].example_shape) == 3 else _scaled(_sample(sets, seed))
    return _projected((describe(part) for part in chunks(sets)), describe(_sample(sets, seed)))


def directions_of(rows: Tensor, seed: int) -> Tensor:
    """Features of a model ``(N, ...)`` as such rows."""
    flat = normalised(rows.flatten(1).float())
    chosen = torch.randperm(len(flat), generator=generator(seed, "audit", "directions"))[:_SAMPLE]
    return _projected(iter(torch.split(flat, _CHUNK)), flat[chosen])


def _projected(parts: Iterator[Tensor], sample: Tensor) -> Tensor:
    mean = sample.mean(0)
    if sample.shape[1] <= DIRECTIONS:
        return torch.cat([part - mean for part in parts])
    centred = sample - mean
    basis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -DIRECTIONS:]
    return torch.cat([(part - mean) @ basis for part in parts])


def _image(stored: Tensor) -> Tensor:
    return normalised(pooled(as_float(stored)))


def _scaled(sample: Tensor) -> Describe:
    rows = sample.float().flatten(1)
    binary = ((rows == 0) | (rows == 1)).all(0)
    deviation = rows.std(0, correction=0)
    scale = torch.where(binary | (deviation == 0), torch.ones(()), deviation)
    return lambda stored: stored.float().flatten(1) / scale


def _sample(sets: Sequence[Examples], seed: int) -> Tensor:
    """At most `_SAMPLE` stored inputs of all sets."""
    total = sum(map(len, sets))
    order = torch.randperm(total, generator=generator(seed, "audit", "directions"))
    chosen = order[:_SAMPLE].sort().values
    found, start = [], 0
    for examples in sets:
        inside = chosen[(chosen >= start) & (chosen < start + len(examples))] - start
        found += [examples.fetch(rows) for rows in torch.split(inside, _CHUNK) if len(rows)]
        start += len(examples)
    return torch.cat(found)
