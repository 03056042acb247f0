"""Means over what counts, and the fp32 island that every loss is computed on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch


def mean(values: Tensor, batch: Batch) -> Tensor:
    """Mean of per-unit ``values`` ``(N, ...)`` over the units that ``batch.mask`` keeps.

    The denominator is ``batch.count``: one and the same for every term, so that parts of a batch,
    weighted by their counts, add up to the whole. An empty mask gives 0 with zero gradient.

    >>> batch = Batch(torch.zeros(3), mask=torch.tensor([True, True, False]))
    >>> mean(torch.tensor([1.0, 3.0, float("inf")]), batch).item()
    2.0
    """
    if batch.mask is None:
        return values.sum() / max(values.numel(), 1)
    if batch.mask.shape != values.shape:
        raise ShapeMismatch(
            f"values of {tuple(values.shape)} units came with a mask of shape "
            f"{tuple(batch.mask.shape)}: a mask must have one entry for each unit."
        )
    # where, not a product: 0 * inf would be NaN.
    kept = torch.where(batch.mask, values, values.new_zeros(()))
    return kept.sum() / batch.mask.sum().clamp(min=1)


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    """Autocast off on ``like``'s device: operations inside keep the precision of their inputs."""
    with torch.autocast(like.device.type, enabled=False):
        yield
