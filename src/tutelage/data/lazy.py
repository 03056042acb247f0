"""A set of examples beyond memory: decoded when asked for."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.data.sets import as_float, checked_ids, checked_targets, digest


class Decoder(Protocol):
    """Reads one example at a time, in any process: it must survive pickling."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> Tensor:
        """Example ``position``: an image ``(C, H, W)`` of uint8, or floats; all of one shape."""
        ...

    def digest(self, positions: Sequence[int]) -> str:
        """SHA-256 (hex) over the undecoded content of these examples."""
        ...


class LazySet:
    """A set of examples that is decoded on demand, with the face of `TensorSet`.

    Args:
        decoder: Reads one example.
        targets: Class numbers ``(N,)``, negative where unlabelled; or None.
        classes: Names of the classes, in the order of their numbers.
        positions: For each example of this set its place in ``decoder`` ``(N,)``; None for all.
        ids: Example numbers ``(N,)``; None for the positions.
        name: What messages call this set.

    Example:
        >>> class Ramp:
        ...     def __len__(self): return 3
        ...     def read(self, position): return torch.full((1, 2, 2), position, dtype=torch.uint8)
        ...     def digest(self, positions): return str(list(positions))
        >>> ramp = LazySet(Ramp(), torch.tensor([0, 0, 1]), classes=("low", "high"))
        >>> ramp.take(torch.tensor([2])).fetch(torch.tensor([0])).max().item()
        2
    """

    def __init__(
        self,
        decoder: Decoder,
        targets: Tensor | None = None,
        *,
        classes: Sequence[str] = (),
        positions: Tensor | None = None,
        ids: Tensor | None = None,
        name: str = "set",
    ):
        self.positions = torch.arange(len(decoder)) if positions is None else positions.long()
        if not len(self.positions):
            raise DataError(f"{name} holds no examples: there is nothing to learn from.")
        self.decoder = decoder
        self.classes = tuple(classes)
        self.name = name
        self.targets = checked_targets(targets, len(self.positions), self.classes, name)
        self.ids = checked_ids(self.positions if ids is None else ids, len(self.positions), name)
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example, ``(C, H, W)`` or ``(D,)``: of the first one, read once."""
        if self._shape is None:
            self._shape = tuple(self.decoder.read(int(self.positions[0])).shape)
        return self._shape

    def fetch(self, rows: Tensor) -> Tensor:
        """The examples of ``rows``, decoded now, still uint8 where they are so."""
        read = [self.decoder.read(position) for position in self.positions[rows].tolist()]
        for example in read:
            if example.shape != read[0].shape:
                raise DataError(
                    f"examples of {self.name} differ in shape: {tuple(read[0].shape)} and "
                    f"{tuple(example.shape)}; give size to bring images to one size."
                )
        return torch.stack(read)

    def batch(self, rows: Tensor) -> Batch:
        """The examples of ``rows`` as a batch of float32, images in [0, 1], not augmented."""
        targets = None if self.targets is None else self.targets[rows]
        return Batch(as_float(self.fetch(rows)), targets, ids=self.ids[rows])

    def take(self, rows: Tensor) -> "LazySet":
        """The sub-set of ``rows``, in their order; ids and classes stay."""
        targets = None if self.targets is None else self.targets[rows]
        return self._again(self.positions[rows], targets, self.ids[rows])

    def with_targets(self, targets: Tensor | None) -> "LazySet":
        """The same examples with other targets."""
        return self._again(self.positions, targets, self.ids)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over undecoded content, targets, ids and class names: reads everything."""
        content = self.decoder.digest(self.positions.tolist())
        return digest(content, self.targets, self.ids, self.classes)

    def _again(self, positions: Tensor, targets: Tensor | None, ids: Tensor) -> "LazySet":
        return LazySet(
            self.decoder,
            targets,
            classes=self.classes,
            positions=positions,
            ids=ids,
            name=self.name,
        )
