"""Where items come from, epoch by epoch, in an order that can be taken up again anywhere."""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


@runtime_checkable
class Source(Protocol[Item_co]):
    """Items (usually batches) in epochs; the order of an epoch depends on its number alone."""

    def __len__(self) -> int:
        """Items in one epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Item_co]:
        """The items of epoch ``number``, from the one numbered ``start`` on."""
        ...


class Listed(Generic[Item]):
    """A list, or anything that can be iterated again and has a length, as a source.

    A tuple or list of two tensors (what a ``DataLoader`` of a ``TensorDataset`` gives) becomes a
    `Batch` of inputs and targets; any other item stays as it is.

    To start in the middle of an epoch it must be iterated up to there. An order of its own (a
    shuffling ``DataLoader``) comes from torch's global generator, which the engine sets at the
    start of each epoch, so that a run that was stopped sees the same order; the loaders of
    `tutelage.data` need no such help, and start anywhere at once.

    Example:
        >>> import torch
        >>> pairs = Listed([(torch.zeros(2, 3), torch.tensor([1, 0]))])
        >>> next(pairs.epoch(0)).targets
        tensor([1, 0])
    """

    def __init__(self, items: Iterable[Item]):
        try:
            self._length = len(items)  # type: ignore[arg-type]
        except TypeError as error:
            raise DataError(
                f"a source must have a length, and {type(items).__name__} has none: give a list."
            ) from error
        if self._length == 0:
            raise DataError("the source is empty: there is nothing to learn from.")
        self._items = items

    def __len__(self) -> int:
        return self._length

    def epoch(self, number: int, start: int = 0) -> Iterator[Item]:
        """All items in their own order."""
        for index, item in enumerate(self._items):
            if index >= start:
                yield cast(Item, _as_batch(item))


def _as_batch(item: object) -> object:
    if type(item) in (tuple, list):
        pair = cast("tuple[object, ...]", item)
        if len(pair) == 2 and isinstance(pair[0], Tensor) and isinstance(pair[1], Tensor):
            return Batch(pair[0], pair[1])
    return item
