"""From a batch of language to what is sent: one prompt for each document in each row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError

Positions = Literal["counted", "all"]


@dataclass(frozen=True)
class Piece:
    """A document, or its beginning as far as it counts.

    Attributes:
        row: Of the batch.
        start: Position of its first token in that row.
        tokens: Its numbers.
        wanted: Places in ``tokens`` after which the teacher's next token is asked for.
        next: A token that may follow the last one, so that the server has something to tell the
            distribution before; which one it is changes nothing.
        known: Whether ``next`` is what does follow in the data.
    """

    row: int
    start: int
    tokens: tuple[int, ...]
    wanted: tuple[int, ...]
    next: int
    known: bool

    @property
    def sent(self) -> tuple[int, ...]:
        """The tokens and the one after them."""
        return (*self.tokens, self.next)


def pieces_of(batch: Batch, positions: Positions) -> Iterator[Piece]:
    """The pieces of a batch that hold any position that is asked for.

    A row is cut where padding begins (``attention_mask``) and where a new document does
    (``position_ids`` that do not go on by one): no token is read by another document's teacher.
    What comes after the last position asked for is not sent.

    Args:
        batch: Its inputs hold ``input_ids`` ``(N, T)``, and perhaps ``attention_mask`` and
            ``position_ids``.
        positions: ``counted`` asks for those in the batch's mask, ``all`` for every token.

    Raises:
        DataError: The batch is no batch of language.

    Example:
        >>> ids = torch.tensor([[5, 6, 7, 8]])
        >>> mask = torch.tensor([[False, True, False, False]])
        >>> piece, = pieces_of(Batch({"input_ids": ids}, mask=mask), "counted")
        >>> piece.tokens, piece.wanted, piece.next
        ((5, 6), (1,), 7)
    """
    ids, attended, starts = _read(batch)
    asked = attended.clone()
    if positions == "counted" and batch.mask is not None:
        asked &= batch.mask.cpu()
    targets = None if batch.targets is None else batch.targets.cpu()
    for row in range(len(ids)):
        for first, end in _documents(attended[row], starts[row]):
            wanted = asked[row, first:end].nonzero()[:, 0].tolist()
            if not wanted:
                continue
            last = first + wanted[-1]
            tokens = tuple(ids[row, first : last + 1].tolist())
            after = int(ids[row, last + 1]) if last + 1 < end else -1
            if after < 0 and targets is not None:
                after = int(targets[row, last])
            known = after >= 0
            yield Piece(row, first, tokens, tuple(wanted), after if known else tokens[-1], known)


def _read(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Token numbers, which are read, and where documents begin, each ``(N, T)``."""
    inputs = batch.inputs
    if isinstance(inputs, Tensor) or "input_ids" not in inputs:
        got = "a bare tensor" if isinstance(inputs, Tensor) else f"inputs {', '.join(inputs)}"
        raise DataError(
            f"a teacher behind a server reads input_ids (N, T), and this batch has {got}: use a "
            "source of text."
        )
    ids = inputs["input_ids"].cpu()
    if ids.ndim != 2 or ids.is_floating_point():
        raise DataError(
            f"input_ids are {tuple(ids.shape)} of {ids.dtype}, expected whole numbers (N, T)."
        )
    attended = inputs.get("attention_mask", torch.ones_like(ids)).cpu().bool()
    place = inputs.get("position_ids")
    starts = torch.zeros_like(attended)
    if place is not None:
        place = place.cpu()
        starts[:, 1:] = place[:, 1:] != place[:, :-1] + 1
    for name, one in (
        ("attention_mask", attended),
        ("mask", batch.mask),
        ("targets", batch.targets),
    ):
        if one is not None and one.shape != ids.shape:
            raise DataError(
                f"{name} is {tuple(one.shape)} and input_ids are {tuple(ids.shape)}: expected the "
                "same (N, T)."
            )
    return ids, attended, starts


def _documents(attended: Tensor, starts: Tensor) -> Iterator[tuple[int, int]]:
    """Where each document of a row begins and ends."""
    first: int | None = None
    marks = zip(attended.tolist(), starts.tolist(), strict=True)
    for place, (read, new) in enumerate(marks):
        if first is not None and (new or not read):
            yield first, place
            first = None
        if read and first is None:
            first = place
    if first is not None:
        yield first, len(attended)
