"""Tiles of logits: a few rows at a time, at full vocabulary, in fp32 whatever the heads are in.

A product of two bf16 numbers is exact in fp32, so a head in half precision is raised a few thousand
rows at a time and multiplied in fp32. What torch's own bf16 product returns is rounded to bf16,
which is coarser than what two good models differ by.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

COLUMNS = 4096
"""Classes that one elementwise step looks at: small enough for a cache."""

TILE_BYTES = 32 << 20
"""Size that a tile of logits is given where the caller does not say."""


def tile_height(classes: int, itemsize: int) -> int:
    """Rows of a tile: about `TILE_BYTES`, and 64 to 512, a multiple of 32.

    >>> tile_height(49_152, 4), tile_height(151_936, 4), tile_height(10, 4)
    (160, 64, 512)
    """
    return min(max(TILE_BYTES // (classes * itemsize) // 32 * 32, 64), 512)


def column_blocks(classes: int, size: int = COLUMNS) -> Iterator[slice]:
    """Consecutive slices that cover all classes; the last may be shorter.

    >>> [(b.start, b.stop) for b in column_blocks(10, 4)]
    [(0, 4), (4, 8), (8, 10)]
    """
    return (slice(i, min(i + size, classes)) for i in range(0, classes, size))


@dataclass(frozen=True)
class Head:
    """Hidden states, and the linear head that reads them.

    Attributes:
        hidden: ``(N, H)``.
        weight: ``(C, H)``: the rows that take part, a view.
        bias: ``(C,)``, or None.
        dtype: In which all is computed: fp32, or fp64.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    dtype: torch.dtype

    def read(self, rows: Tensor) -> Tensor:
        """The hidden states of ``rows`` ``(R,)``, in `dtype`, ``(R, H)``."""
        return self.hidden.index_select(0, rows).to(self.dtype)

    def raised(self) -> Iterator[tuple[slice, Tensor]]:
        """The weight in `dtype`: whole where it is so already, else block by block.

        The tensor of one block is overwritten by the next.
        """
        classes, width = self.weight.shape
        if self.weight.dtype == self.dtype:
            yield slice(0, classes), self.weight
            return
        held = self.weight.new_empty((min(COLUMNS, classes), width), dtype=self.dtype)
        for block in column_blocks(classes):
            yield block, held[: block.stop - block.start].copy_(self.weight[block])

    def log_probabilities(self, hidden: Tensor, temperature: float, out: Tensor) -> Tensor:
        """Log-softmax at T of the logits of ``hidden`` ``(R, H)``, in ``out`` ``(R, C)``."""
        scaled = hidden if temperature == 1 else hidden / temperature
        for block, weight in self.raised():
            torch.mm(scaled, weight.t(), out=out[:, block])
        if self.bias is not None:
            out.add_(self.bias.to(self.dtype) / temperature)
        return log_softmax_(out)

    def back(self, slopes: Tensor) -> Tensor:
        """Gradient of the hidden states, ``(R, H)``, from that of the logits, ``(R, C)``."""
        found = slopes.new_zeros((len(slopes), self.weight.shape[1]))
        for block, weight in self.raised():
            found.addmm_(slopes[:, block], weight)
        return found


def log_softmax_(logits: Tensor) -> Tensor:
    """Log-softmax of ``(R, C)`` over classes, in place, without a second tile."""
    top = logits.amax(1, keepdim=True)
    total = torch.zeros_like(top)
    for block in column_blocks(logits.shape[1]):
        total += logits[:, block].sub_(top).exp().sum(1, keepdim=True)
    return logits.sub_(total.log_())
