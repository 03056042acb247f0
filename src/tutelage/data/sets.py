"""A labelled set of examples, and its form in memory."""

import hashlib
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError


class Examples(Protocol):
    """What every set of examples can do, wherever it keeps them.

    Rows are positions in this set, ids are the numbers examples keep in every sub-set: caches,
    augmentation and splits go by ids.
    """

    @property
    def name(self) -> str:
        """What messages call this set."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        ...

    @property
    def targets(self) -> Tensor | None:
        """Class numbers ``(N,)``, negative where unlabelled; or None. Of text, ``(N, T)``."""
        ...

    @property
    def ids(self) -> Tensor:
        """Example numbers ``(N,)``, all different."""
        ...

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example, ``(C, H, W)``, ``(D,)`` or ``(T,)``."""
        ...

    def __len__(self) -> int: ...

    def fetch(self, rows: Tensor) -> Tensor:
        """The stored inputs of ``rows``, still uint8 or token numbers where they are kept so."""
        ...

    def batch(self, rows: Tensor) -> Batch:
        """The examples of ``rows`` as a batch, not augmented; anything but text as float32."""
        ...

    def take(self, rows: Tensor) -> Self:
        """The sub-set of ``rows``, in their order; ids and classes stay."""
        ...

    def with_targets(self, targets: Tensor | None) -> Self:
        """The same examples with other targets."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) over content, targets, ids and class names."""
        ...


class TensorSet:
    """A set of examples that lies in memory.

    Args:
        inputs: Images ``(N, C, H, W)`` of uint8, or floats ``(N, ...)``; float images lie in
            [0, 1]. Kept as given, never changed.
        targets: Class numbers ``(N,)`` of any integer type, negative where unlabelled; or None.
        classes: Names of the classes, in the order of their numbers.
        ids: Example numbers ``(N,)``, all different; None for 0 .. N-1.
        name: What messages call this set.

    Raises:
        DataError: Empty, of another shape or type, NaN or infinite, or a label without a class.

    Example:
        >>> pixels = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
        >>> pair = TensorSet(pixels, torch.tensor([1, 0]), classes=("cat", "dog"))
        >>> len(pair), pair.example_shape, pair.batch(torch.tensor([1])).inputs.max().item()
        (2, (1, 4, 4), 1.0)
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor | None = None,
        *,
        classes: Sequence[str] = (),
        ids: Tensor | None = None,
        name: str = "set",
    ):
        self.inputs = _checked_inputs(inputs, name)
        self.classes = tuple(classes)
        self.name = name
        self.targets = checked_targets(targets, len(self.inputs), self.classes, name)
        self.ids = checked_ids(ids, len(self.inputs), name)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example, ``(C, H, W)`` or ``(D,)``."""
        return tuple(self.inputs.shape[1:])

    def fetch(self, rows: Tensor) -> Tensor:
        """The stored inputs of ``rows``: a copy, still uint8 where they are kept so."""
        return self.inputs.index_select(0, rows)

    def batch(self, rows: Tensor) -> Batch:
        """The examples of ``rows`` as a batch of float32, images in [0, 1], not augmented."""
        targets = None if self.targets is None else self.targets[rows]
        return Batch(as_float(self.fetch(rows)), targets, ids=self.ids[rows])

    def take(self, rows: Tensor) -> "TensorSet":
        """The sub-set of ``rows``, in their order; ids and classes stay."""
        targets = None if self.targets is None else self.targets[rows]
        return TensorSet(
            self.inputs[rows], targets, classes=self.classes, ids=self.ids[rows], name=self.name
        )

    def with_targets(self, targets: Tensor | None) -> "TensorSet":
        """The same examples with other targets."""
        return TensorSet(self.inputs, targets, classes=self.classes, ids=self.ids, name=self.name)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over content, targets, ids and class names."""
        return digest(self.inputs, self.targets, self.ids, self.classes)


def as_float(inputs: Tensor) -> Tensor:
    """Inputs as models see them: float32, bytes divided by 255."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs


def digest(
    content: Tensor | str, targets: Tensor | None, ids: Tensor, classes: Sequence[str]
) -> str:
    """SHA-256 (hex) over everything that makes a set what it is."""
    total = hashlib.sha256()
    for part in (content, targets, ids):
        if isinstance(part, Tensor):
            total.update(f"{part.dtype} {tuple(part.shape)};".encode())
            total.update(np.ascontiguousarray(part.numpy()).data)
        else:
            total.update(f"{part};".encode())
    total.update("\x1f".join(classes).encode())
    return total.hexdigest()


def checked_targets(
    targets: Tensor | None, count: int, classes: Sequence[str], name: str
) -> Tensor | None:
    """Targets as int64, or the one line that says what is wrong with them."""
    if targets is None:
        return None
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise DataError(
            f"targets of {name} are {_kind(targets)}, expected class numbers (integers): "
            "give targets.argmax(1) for one-hot rows, or .long() for numbers."
        )
    if tuple(targets.shape) != (count,):
        raise DataError(
            f"targets of {name} have shape {tuple(targets.shape)}, expected ({count},): "
            "one class number for each example."
        )
    targets = targets.long()
    highest = int(targets.max())
    if highest >= len(classes):
        where = int(targets.argmax())
        raise DataError(
            f"label {highest} in row {where} of {name} is outside 0..{len(classes) - 1}: "
            f"there are {len(classes)} classes; number them from 0, or name all of them in classes."
        )
    return targets


def checked_ids(ids: Tensor | None, count: int, name: str) -> Tensor:
    """Ids as int64, all different; 0 .. count-1 where none are given."""
    if ids is None:
        return torch.arange(count)
    if tuple(ids.shape) != (count,) or ids.is_floating_point():
        raise DataError(
            f"ids of {name} are {_kind(ids)} of shape {tuple(ids.shape)}, "
            f"expected ({count},) of int64."
        )
    ids = ids.long()
    if bool((ids.sort().values.diff() == 0).any()):
        raise DataError(f"ids of {name} repeat: every example needs a number of its own.")
    return ids


def _checked_inputs(inputs: Tensor, name: str) -> Tensor:
    if inputs.ndim < 2 or not inputs.numel():
        raise DataError(
            f"inputs of {name} have shape {tuple(inputs.shape)}, expected images (N, C, H, W) "
            "or rows (N, D) with at least one example."
        )
    if inputs.dtype == torch.uint8:
        if inputs.ndim != 4:
            raise DataError(
                f"inputs of {name} are uint8 of shape {tuple(inputs.shape)}: bytes are read as "
                "images (N, C, H, W); give floats for anything else."
            )
        return inputs
    if not inputs.is_floating_point():
        raise DataError(
            f"inputs of {name} are {_kind(inputs)}, expected uint8 images or floats: "
            "convert them first."
        )
    inputs = inputs.float()
    if not bool(torch.isfinite(inputs).all()):
        row = int((~torch.isfinite(inputs)).flatten(1).any(1).int().argmax())
        raise DataError(
            f"inputs of {name} hold NaN or infinite values, first in row {row}: "
            "remove or fill them."
        )
    if inputs.ndim == 4 and (float(inputs.min()) < 0 or float(inputs.max()) > 1):
        raise DataError(
            f"float images of {name} reach from {float(inputs.min()):.3g} to "
            f"{float(inputs.max()):.3g}, expected 0 to 1: give them unnormalised (a model's "
            "intake normalises), divide by 255, or give uint8."
        )
    return inputs


def _kind(t: Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")
