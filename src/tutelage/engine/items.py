"""Items of a source, one after another from any step on, and moved to where the run is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.source import Listed, Source

Item = TypeVar("Item")
_END: Any = object()


def as_source(source: Source[Item] | Iterable[Item]) -> Source[Item]:
    """``source`` itself, or a list of items made one."""
    made = source if isinstance(source, Source) else Listed(source)
    if len(made) == 0:
        raise DataError("the source is empty: there is nothing to learn from.")
    return made


def items_from(source: Source[Item], step: int, seed: Callable[[str, int], None]) -> Iterator[Item]:
    """All items from number ``step`` on, epoch after epoch, without end.

    Args:
        source: Of at least one item.
        step: Where to begin.
        seed: Sets the global generators for a purpose and a number: ``("epoch", e)`` before an
            epoch begins, ``("item", i)`` before an item is made. A source that draws its order
            or its items from them gives the same ones after a stop.
    """
    length = len(source)
    epoch, start = divmod(step, length)
    while True:
        # A shuffling DataLoader draws its order with its first item: go there again, and on.
        first = 0 if isinstance(source, Listed) else start
        seed("epoch", epoch)
        items = iter(source.epoch(epoch, first))
        for number in count(first):
            seed("item", epoch * length + number)
            item = next(items, _END)
            if item is _END:
                break
            if start <= number < length:
                yield item
        if number != length:
            raise DataError(
                f"the source says that an epoch has {length} items, and epoch {epoch} gave "
                f"{number}: the order could not be taken up again after a stop; make len() true."
            )
        epoch, start = epoch + 1, 0


def moved(item: Any, place: torch.device) -> Any:
    """``item`` with all batches and tensors in it on ``place``; anything unknown as it is."""
    if isinstance(item, (Batch, Tensor)):
        return item if _is_at(item, place) else item.to(place)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(moved(inner, place) for inner in item))
    if type(item) in (list, tuple):
        return type(item)(moved(inner, place) for inner in item)
    if isinstance(item, Mapping) and type(item) is dict:
        return {key: moved(inner, place) for key, inner in item.items()}
    if is_dataclass(item) and not isinstance(item, type):
        inner = {f.name: getattr(item, f.name) for f in fields(item) if f.init}
        return replace(item, **{name: moved(value, place) for name, value in inner.items()})
    return item


def _is_at(item: Batch | Tensor, place: torch.device) -> bool:
    """Whether there is nothing to move: asked twice a step, where moving costs ten times more."""
    if isinstance(item, Tensor):
        return item.device == place
    inputs = [item.inputs] if isinstance(item.inputs, Tensor) else item.inputs.values()
    rest = (item.targets, item.mask, item.ids)
    return all(t is None or t.device == place for t in (*inputs, *rest))
