"""Batches of rows of tokens, in an order that can be made again at any time."""

from collections.abc import Iterator
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform

_STEPS = 16


class Ragged(Protocol):
    """A set whose rows are filled up: `TokenSet` and `SentenceSet`."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def ids(self) -> Tensor:
        """Example numbers ``(N,)``."""
        ...

    @property
    def widths(self) -> Tensor:
        """Columns ``(N,)`` that each row needs."""
        ...

    @property
    def example_shape(self) -> tuple[int, ...]:
        """``(T,)``."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor, width: int | None = None) -> Batch:
        """The examples of ``rows`` in so many columns."""
        ...

    def with_targets(self, targets: Tensor | None) -> Self:
        """The same rows with other targets."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex)."""
        ...


class TokenLoader:
    """A source of batches of tokens, with the face of `tutelage.data.Loader`.

    Columns that no row of a batch needs are cut off. With ``tokens_per_batch`` rows of similar
    length come together: lengths are rounded up to sixteenths of the longest, rows of one length
    are in an order of (seed, epoch), and so are the batches. Which lengths make a batch is the same
    in every epoch, so that all epochs have as many batches, and each can be taken up anywhere.

    Args:
        examples: The set.
        batch_size: Rows in a batch; the last of an epoch may be smaller.
        tokens_per_batch: Rows times columns of a batch at most, filling included; one of the two
            must be given.
        seed: Of the order.
        shuffle: Whether each epoch has an order of its own; else it is the set's, or by length.
        drop_last: Leave a last, smaller batch out; only with ``batch_size``.
        trim: Whether columns are cut off; else all batches have T.

    Raises:
        DataError: Numbers out of range, or a row that is longer than a batch may be.

    Example:
        >>> from tutelage.data.text import TokenSet
        >>> rows = TokenSet(torch.arange(1, 41).view(10, 4), lengths=torch.tensor([2, 4] * 5))
        >>> loader = TokenLoader(rows, tokens_per_batch=6)
        >>> sorted(tuple(batch.targets.shape) for batch in loader.epoch(0))
        [(1, 3), (2, 3), (2, 3), (5, 1)]
        >>> tail = next(loader.epoch(0, start=3))
        >>> tail.ids.equal(list(loader.epoch(0))[3].ids)
        True
    """

    def __init__(
        self,
        examples: Ragged,
        batch_size: int | None = None,
        *,
        tokens_per_batch: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        trim: bool = True,
    ):
        if (batch_size is None) == (tokens_per_batch is None):
            raise DataError(
                f"batch_size is {batch_size} and tokens_per_batch {tokens_per_batch}: give one of "
                "the two."
            )
        for name, value in (("batch_size", batch_size), ("tokens_per_batch", tokens_per_batch)):
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}, expected at least 1.")
        if drop_last and (batch_size is None or len(examples) < batch_size):
            raise DataError(
                f"drop_last leaves rows of {examples.name} ({len(examples)}) out that would never "
                "make a whole batch: use it with a smaller batch_size, and no tokens_per_batch."
            )
        self.examples, self.batch_size = examples, batch_size
        self.tokens_per_batch, self.seed, self.shuffle = tokens_per_batch, seed, shuffle
        self.drop_last, self.trim = drop_last, trim
        self.views, self.view_seed, self.augment = 1, seed, None
        self._needed = examples.widths
        self._rounded, self._stops = self._shares()

    def __len__(self) -> int:
        return len(self._stops)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one numbered ``start`` on."""
        if number < 0 or not 0 <= start <= len(self):
            raise DataError(
                f"epoch {number} from batch {start}: expected an epoch from 0 and a batch "
                f"from 0 to {len(self)}."
            )
        return map(self._batch, self._rows(number)[start:])

    def view(self, number: int) -> int:
        """The view that epoch ``number`` shows: there is one, and its number is 0."""
        return 0

    @property
    def ids(self) -> Tensor:
        """The numbers of all examples ``(N,)``."""
        return self.examples.ids

    def identity(self) -> dict[str, Any]:
        """All that the inputs follow from, as plain data; what counts of them is no part of it."""
        data = self.examples.with_targets(None).fingerprint()
        return {"data": data, "augment": [], "seed": None}

    def in_order(self) -> "TokenLoader":
        """The same rows in the set's own order, or by length; none is left out."""
        return TokenLoader(
            self.examples,
            self.batch_size,
            tokens_per_batch=self.tokens_per_batch,
            seed=self.seed,
            shuffle=False,
            trim=self.trim,
        )

    def order(self, number: int) -> Tensor:
        """The rows of the set in the order of epoch ``number`` ``(N,)``."""
        return torch.cat(self._rows(number))

    def _rows(self, number: int) -> list[Tensor]:
        """The rows of each batch of an epoch."""
        rows = torch.arange(len(self.examples))
        if self.shuffle:
            rows = uniform(derive(self.seed, "order", number), rows)[:, 0].argsort(stable=True)
        if self.tokens_per_batch is not None:
            rows = rows[self._rounded[rows].argsort(stable=True)]
        batches = list(rows[: self._stops[-1]].tensor_split(self._stops[:-1]))
        if self.shuffle and self.tokens_per_batch is not None:
            places = torch.arange(len(batches))
            mixed = uniform(derive(self.seed, "batches", number), places)[:, 0].argsort(stable=True)
            batches = [batches[place] for place in mixed.tolist()]
        return batches

    def _batch(self, rows: Tensor) -> Batch:
        width = int(self._needed[rows].max()) if self.trim else None
        made = self.examples.batch(rows, width)
        return Batch(made.inputs, made.targets, made.mask, made.ids, view=0)

    def _shares(self) -> tuple[Tensor, list[int]]:
        """Rounded lengths of rows ``(N,)``, and where each batch ends in an epoch."""
        count, longest = len(self.examples), int(self._needed.max())
        if self.batch_size is not None:
            last = count - count % self.batch_size if self.drop_last else count
            stops = [*range(self.batch_size, last, self.batch_size), last]
            return self._needed, stops
        budget = self.tokens_per_batch or 0
        full = self.examples.example_shape[0]
        longest = longest if self.trim else full
        if budget < longest:
            raise DataError(
                f"tokens_per_batch is {budget}, and the longest row of {self.examples.name} has "
                f"{longest} tokens: give at least as many."
            )
        step = -(-longest // _STEPS)
        rounded = (self._needed.add(step - 1) // step * step).clamp(max=longest)
        if not self.trim:
            rounded = torch.full_like(rounded, full)
        stops, begun = [], 0
        for place, width in enumerate(rounded.sort().values.tolist()):
            if (place + 1 - begun) * width > budget:
                stops.append(place)
                begun = place
        return rounded, [*stops, count]
