"""Batches that hold two versions of each example, one after the other."""

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError


def check_pairs(batch: Batch, asker: str) -> None:
    """Refuse a batch of which rows 2 n and 2 n + 1 are not variants 0 and 1.

    Raises:
        DataError: There are others, or a cut went through a pair.
    """
    variant = batch.variant
    assert variant is not None
    expected = torch.arange(len(variant), device=variant.device) % 2
    if len(variant) % 2 or not bool((variant == expected).all()):
        found = variant.tolist()[:4]
        raise DataError(
            f"{asker} reads pairs of rows, variants 0 and 1 in turn, and got {len(variant)} rows "
            f"that begin {found}: use a source of two variants, and batches of which each part "
            "(accumulate, processes) holds whole pairs."
        )


def other_version(batch: Batch) -> Tensor:
    """For each row of a batch of pairs, the row of the other version, ``(N,)``.

    Example:
        >>> other_version(Batch(torch.zeros(4, 1)))
        tensor([1, 0, 3, 2])
    """
    inputs = batch.inputs
    like = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    return torch.arange(len(batch), device=like.device) ^ 1
