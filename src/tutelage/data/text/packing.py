"""Documents into rows of one length, and nothing of them lost."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.errors import DataError

Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Packed:
    """Rows of L tokens, L = length + 1.

    Attributes:
        tokens: ``(N, L)`` of int32, filled up on the right.
        lengths: Tokens of each row that are not filling ``(N,)`` of int64.
        counted: Which tokens are to be predicted ``(N, L)`` of bool; None for all.
        begins: Where a document, or a part of one, begins ``(N, L)`` of bool; None where each row
            is one.
        sources: For each row the number of the document that it begins with ``(N,)`` of int64.
    """

    tokens: Tensor
    lengths: Tensor
    counted: Tensor | None
    begins: Tensor | None
    sources: Tensor

    @property
    def shared(self) -> bool:
        """Whether several documents are in one row somewhere."""
        return self.begins is not None and bool((self.begins.sum(1) > 1).any())


def cuts(count: int, length: int) -> list[tuple[int, int]]:
    """Where a document of ``count`` tokens is cut into rows of at most ``length + 1``.

    Every part begins with the last token of the part before it: this is read there and predicted
    here, so each token but the document's first is predicted once, whatever the cuts.

    >>> cuts(10, 4), cuts(5, 4), cuts(1, 4)
    ([(0, 5), (4, 9), (8, 10)], [(0, 5)], [(0, 1)])
    """
    return [
        (start, min(start + length + 1, count)) for start in range(0, max(1, count - 1), length)
    ]


def pack(
    documents: Sequence[NDArray[np.int32]],
    length: int,
    *,
    counted: Sequence[Marks] | None = None,
    together: bool = True,
    padding: int = 0,
) -> Packed:
    """Rows of ``length + 1`` tokens of which ``length`` are read and ``length`` predicted.

    A document that is longer than a row is cut (`cuts`). Where several share a row, parts are
    placed whole, the longest first, each in the fullest row that has room for it (best fit,
    decreasing), so no document is cut that fits into a row, and little is filled up.

    Args:
        documents: Tokens of each, with those that begin and end it.
        length: Tokens that a model reads at once.
        counted: For each document which of its tokens are to be predicted; None for all.
        together: Whether several documents may share a row.
        padding: What rows are filled up with.

    Returns:
        The rows, in the order of the documents that they begin with.

    Raises:
        DataError: ``length`` is less than 1, or there is no document.

    Example:
        >>> rows = pack([np.arange(3), np.arange(7), np.arange(2)], 4)
        >>> rows.tokens.tolist(), rows.lengths.tolist()
        ([[0, 1, 2, 0, 0], [0, 1, 2, 3, 4], [4, 5, 6, 0, 1]], [3, 5, 5])

    Ding et al.: Fewer Truncations Improve Language Modeling, 2024, arXiv:2404.10830; there parts
    do not overlap by a token, so that what follows a cut is never predicted.
    """
    if length < 1:
        raise DataError(f"length is {length}, expected at least 1: the tokens that are read.")
    if not documents:
        raise DataError("there is no document to make rows of.")
    parts = [
        (number, start, stop)
        for number, tokens in enumerate(documents)
        for start, stop in cuts(len(tokens), length)
    ]
    sizes = [stop - start for _, start, stop in parts]
    rows = best_fit(sizes, length + 1) if together else [[part] for part in range(len(parts))]
    shape = (len(rows), length + 1)
    tokens = np.full(shape, padding, np.int32)
    marks = None if counted is None else np.zeros(shape, bool)
    begins = np.zeros(shape, bool) if together else None
    lengths = np.zeros(len(rows), np.int64)
    for row, members in enumerate(rows):
        filled = 0
        for part in members:
            number, start, stop = parts[part]
            place = slice(filled, filled + stop - start)
            tokens[row, place] = documents[number][start:stop]
            if marks is not None and counted is not None:
                marks[row, place] = counted[number][start:stop]
            if begins is not None:
                begins[row, filled] = True
            filled += stop - start
        lengths[row] = filled
    sources = np.array([parts[members[0]][0] for members in rows], np.int64)
    return Packed(
        torch.from_numpy(tokens),
        torch.from_numpy(lengths),
        None if marks is None else torch.from_numpy(marks),
        None if begins is None else torch.from_numpy(begins),
        torch.from_numpy(sources),
    )


def best_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Parts shared out to rows: the longest first, each to the fullest row that it fits into.

    Args:
        sizes: Of the parts, at most ``room``.
        room: Of a row.

    Returns:
        Parts of each row, ascending; rows in the order of their first part.

    Example:
        >>> best_fit([3, 5, 2, 1], 5)
        [[0, 2], [1], [3]]
    """
    rows: list[list[int]] = []
    left: dict[int, list[int]] = {}  # by room left: the rows that have it
    rooms: list[int] = []  # the keys of left, ascending
    for part in sorted(range(len(sizes)), key=lambda part: -sizes[part]):
        place = bisect_left(rooms, sizes[part])
        if place < len(rooms):
            had = rooms[place]
            row = left[had].pop()
            if not left[had]:
                del left[had], rooms[place]
            rows[row].append(part)
        else:
            had, row = room, len(rows)
            rows.append([part])
        rest = had - sizes[part]
        if rest > 0:
            if rest not in left:
                left[rest] = []
                insort(rooms, rest)
            left[rest].append(row)
    return sorted(sorted(row) for row in rows)
