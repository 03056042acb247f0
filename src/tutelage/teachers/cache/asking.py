"""What a batch says of the answers to it: which units are wanted, and how many there are."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform
from tutelage.teachers.cache.forms import Form


@dataclass(frozen=True)
class Asked:
    """What a batch says of the answers to it.

    Attributes:
        ids: Numbers of the examples ``(N,)``, and ``view``: what draws follow from.
        view: Which view of them it is.
        mask: Which units are wanted, ``(N, ...)``; all if None.
        units: Shape of one example's units in this batch, where records have room for more; None
            where they have just room for it.
    """

    ids: Tensor | None = None
    view: int = 0
    mask: Tensor | None = None
    units: tuple[int, ...] | None = None

    def wanted(self, units: tuple[int, ...]) -> Tensor | None:
        """The mask of answers of ``(N, *units)``, where it is one of units; else None: all."""
        mask = self.mask
        return mask if mask is not None and units and mask.shape[1:] == units else None

    def points(self, count: int, units: tuple[int, ...]) -> Tensor:
        """Where draws fall, ``(N, ...)`` in [0, 1): by example, view and unit alone."""
        ids = torch.arange(count) if self.ids is None else self.ids.cpu()
        seed = derive(0, "draws", self.view)
        return uniform(seed, ids, prod(units)).view(count, *units)


def asked_of(form: Form, batch: Batch) -> Asked:
    """What ``batch`` says.

    Raises:
        DataError: Its texts are longer than records have room for.
    """
    units = None
    if form.length is not None:
        units = (_positions(batch),)
        if units[0] > form.length:
            raise DataError(
                f"this batch has texts of {units[0]} positions, and the cache has room for "
                f"{form.length}: set length to the longest, or cut them."
            )
    return Asked(batch.ids, batch.view or 0, batch.mask, units)


def _positions(batch: Batch) -> int:
    """T: of the mask, of the targets, or of the inputs."""
    inputs = batch.inputs
    if not isinstance(inputs, Tensor):
        inputs = inputs["input_ids"] if "input_ids" in inputs else next(iter(inputs.values()))
    for each in (batch.mask, batch.targets, inputs):
        if each is not None and each.ndim > 1:
            return int(each.shape[1])
    raise DataError(
        "length is for texts, and the examples of this batch are single numbers: leave it out."
    )
