"""Where items come from, epoch by epoch, in an order that can be taken up again anywhere."""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar, runtime_checkable

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

    To start in the middle of an epoch it must be iterated up to there, and an order of its own
    that changes from epoch to epoch (a shuffling ``DataLoader``) cannot be taken up again:
    the loaders of `tutelage.data` can.
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
                yield item
