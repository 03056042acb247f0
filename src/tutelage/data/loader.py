"""Batches of a set, in an order and with views that can be made again at any time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform
from tutelage.data.augment import Augment
from tutelage.data.mixing import mix_targets
from tutelage.data.sets import Examples, as_float
from tutelage.data.text.pair_set import PairSet
from tutelage.data.text.sentence_set import SentenceSet
from tutelage.data.text.token_set import TokenSet


class Loader:
    """A source of batches: order by (seed, epoch), each example's view by (seed, view, id).

    Neither batch size nor workers nor where an epoch is taken up again change what an example
    looks like; workers only decode.

    Args:
        examples: The set.
        batch_size: Examples in a batch; the last of an epoch may be smaller.
        augment: How views are made; None for the examples as they are.
        seed: Of order and views.
        shuffle: Whether each epoch has an order of its own; else it is the set's.
        drop_last: Leave a last, smaller batch out.
        views: How many different views there are: epoch ``e`` shows view ``e % views``, so that
            answers to all views can be cached. None: every epoch shows a new one. Without
            ``augment`` there is one, and its number is 0.
        view_seed: Of views alone, where several orders are to share them; None for ``seed``.
        workers: Processes that decode; 0 decodes here. For sets in memory they gain nothing.

    Raises:
        DataError: Numbers out of range, or examples that ``augment`` cannot work on.

    Example:
        >>> from tutelage.data import TensorSet
        >>> loader = Loader(TensorSet(torch.arange(5.0)[:, None]), 2, seed=0)
        >>> len(loader), [len(batch) for batch in loader.epoch(0)]
        (3, [2, 2, 1])
        >>> tail = [batch.ids for batch in loader.epoch(0, start=1)]
        >>> [batch.ids for batch in loader.epoch(0)][1].equal(tail[0])
        True
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        augment: Augment | None = None,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        views: int | None = None,
        view_seed: int | None = None,
        workers: int = 0,
    ):
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("views", 1 if views is None else views, 1),
            ("workers", workers, 0),
        ):
            if value < least:
                raise DataError(f"{name} is {value}, expected at least {least}.")
        if drop_last and len(examples) < batch_size:
            raise DataError(
                f"drop_last leaves no batch: {examples.name} has {len(examples)} examples, "
                f"and batch_size is {batch_size}; use a smaller one."
            )
        if isinstance(examples, TokenSet | SentenceSet | PairSet):
            raise DataError(
                f"{examples.name} holds rows of tokens, and this loader is for images and tables: "
                "use tutelage.data.TokenLoader."
            )
        if augment is not None:
            augment.check(examples.example_shape)
        self.examples, self.batch_size, self.augment = examples, batch_size, augment
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.views = 1 if augment is None else views
        self.view_seed = seed if view_seed is None else view_seed
        self.workers = workers

    def __len__(self) -> int:
        whole, rest = divmod(len(self.examples), self.batch_size)
        return whole + int(rest > 0 and not self.drop_last)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one numbered ``start`` on; the rest is skipped.

        Nothing of what is skipped is fetched or decoded.
        """
        if number < 0 or not 0 <= start <= len(self):
            raise DataError(
                f"epoch {number} from batch {start}: expected an epoch from 0 and a batch "
                f"from 0 to {len(self)}."
            )
        return self._batches(number, start)

    def view(self, number: int) -> int:
        """The view that epoch ``number`` shows."""
        return number if self.views is None else number % self.views

    @property
    def ids(self) -> Tensor:
        """The numbers of all examples ``(N,)``."""
        return self.examples.ids

    def identity(self) -> dict[str, Any]:
        """All that the views follow from, as plain data; labels are no part of a view.

        Two loaders of the same identity show the same inputs in view v, in whatever order: what a
        teacher answers to them can be kept (`tutelage.teachers.Cached`).
        """
        augment = self.augment
        return {
            "data": self.examples.with_targets(None).fingerprint(),
            "augment": [] if augment is None else augment.written(),
            "seed": None if augment is None else self.view_seed,
        }

    def in_order(self) -> "Loader":
        """The same views in the set's own order, no example left out."""
        return Loader(
            self.examples,
            self.batch_size,
            augment=self.augment,
            seed=self.seed,
            shuffle=False,
            views=self.views,
            view_seed=self.view_seed,
            workers=self.workers,
        )

    def order(self, number: int) -> Tensor:
        """The rows of the set in the order of epoch ``number`` ``(N,)``."""
        rows = torch.arange(len(self.examples))
        if not self.shuffle:
            return rows
        return uniform(derive(self.seed, "order", number), rows)[:, 0].argsort(stable=True)

    def _batches(self, number: int, start: int) -> Iterator[Batch]:
        view = self.view(number)
        end = min(len(self) * self.batch_size, len(self.examples))
        order = self.order(number)[start * self.batch_size : end]
        cuts = [slice(i, i + self.batch_size) for i in range(0, len(order), self.batch_size)]
        theirs: Tensor | None = None
        if self.augment is not None:
            ids, size = self.examples.ids[order], len(self.examples)
            theirs = self.augment.partners(ids, size, seed=self.view_seed, view=view)
        jobs = [(order[cut], None if theirs is None else theirs[cut]) for cut in cuts]
        wanted = [rows if others is None else torch.cat([rows, others]) for rows, others in jobs]
        for (rows, others), stored in zip(jobs, self._fetched(wanted), strict=True):
            yield self._batch(rows, others, stored, view)

    def _batch(self, rows: Tensor, partners: Tensor | None, stored: Tensor, view: int) -> Batch:
        examples, seed = self.examples, self.view_seed
        inputs, ids = as_float(stored), examples.ids[rows]
        targets = None if examples.targets is None else examples.targets[rows]
        if self.augment is None:
            return Batch(inputs, targets, ids=ids, view=view)
        every = ids if partners is None else torch.cat([ids, examples.ids[partners]])
        inputs = self.augment.view(inputs, every, seed=seed, view=view)
        if partners is not None:
            own, others = inputs[: len(rows)], inputs[len(rows) :]
            inputs, share = self.augment.mix(own, others, ids, seed=seed, view=view)
            if targets is not None and examples.targets is not None:
                theirs = examples.targets[partners]
                targets = mix_targets(targets, theirs, share, len(examples.classes))
        return Batch(inputs, targets, ids=ids, view=view)

    def _fetched(self, wanted: Sequence[Tensor]) -> Iterator[Tensor]:
        if not self.workers or not wanted:
            yield from map(self.examples.fetch, wanted)
            return
        pieces = torch.utils.data.DataLoader(
            _Fetching(self.examples),
            batch_sampler=[rows.tolist() for rows in wanted],
            num_workers=self.workers,
            collate_fn=_as_it_is,
            # Else it would draw its base seed from torch's global stream: training would depend
            # on the number of workers, and differ after a resume.
            generator=torch.Generator().manual_seed(0),
        )
        for piece in pieces:
            if isinstance(piece, DataError):
                raise piece
            yield piece


class _Fetching(torch.utils.data.Dataset[Tensor]):
    """What a worker process does: fetch. Errors come back as values, so they stay one line."""

    def __init__(self, examples: Examples):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, rows: Sequence[int]) -> Tensor | DataError:
        try:
            return self.examples.fetch(torch.tensor(rows))
        except DataError as error:
            return error


def _as_it_is(fetched: Any) -> Any:
    return fetched
