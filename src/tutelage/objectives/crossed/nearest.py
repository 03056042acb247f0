"""Tokens paired by edit distance, as MinED does where no token is the same.

Wan, Huang, Cai, Quan, Bi, Shi: Knowledge Fusion of Large Language Models, 2024, arXiv:2401.10491.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor


def nearest_pieces(wanted: Iterable[bytes], known: Mapping[bytes, int]) -> dict[bytes, int]:
    """For each wanted piece the number of the known one that is nearest to it.

    Looked for among those that begin with the same byte. Where several are as near, it is the
    lowest number; where all are as far as nothing at all, there is none.

    Args:
        wanted: Pieces, not empty.
        known: Numbers by piece.

    Example:
        >>> nearest_pieces([b"learning", b"x"], {b"leaning": 4, b"lead": 7, b"y": 9})
        {b'learning': 4}
    """
    shelves: dict[int, list[tuple[int, bytes]]] = {}
    for piece, number in sorted(known.items(), key=lambda item: item[1]):
        shelves.setdefault(piece[0], []).append((number, piece))
    found: dict[bytes, int] = {}
    made = {first: _Shelf(shelf) for first, shelf in shelves.items()}
    for piece in wanted:
        if piece[0] in made:
            best = made[piece[0]].nearest(piece)
            if best is not None:
                found[piece] = best
    return found


def edit_distances(piece: Tensor, others: Tensor, lengths: Tensor) -> Tensor:
    """How many bytes must be put in, left out or changed to make others of one piece (Levenshtein).

    Args:
        piece: Its bytes ``(L,)``.
        others: ``(K, M)``, filled up with any number.
        lengths: Of the others, ``(K,)``.

    Returns:
        ``(K,)`` of int64.

    Example:
        >>> other = torch.tensor([list(b"leaning")])
        >>> edit_distances(torch.tensor(list(b"learning")), other, torch.tensor([7]))
        tensor([1])
    """
    places = torch.arange(others.shape[1] + 1)
    row = places.expand(len(others), -1)
    for count, byte in enumerate(piece.tolist(), 1):
        changed = row[:, :-1] + (others != byte)
        below = torch.minimum(changed, row[:, 1:] + 1)
        below = torch.cat([below.new_full((len(others), 1), count), below], dim=1)
        # What is put in adds one for each place: the least so far, carried along.
        row = (below - places).cummin(1).values + places
    return row.gather(1, lengths[:, None]).squeeze(1)


class _Shelf:
    """Pieces that begin alike, in the order of their numbers."""

    def __init__(self, pieces: Sequence[tuple[int, bytes]]):
        self.numbers = [number for number, _ in pieces]
        self.lengths = torch.tensor([len(piece) for _, piece in pieces])
        self.bytes = torch.full((len(pieces), int(self.lengths.max())), -1)
        for place, (_, piece) in enumerate(pieces):
            self.bytes[place, : len(piece)] = torch.tensor(list(piece))

    def nearest(self, piece: bytes) -> int | None:
        # A piece twice as long is further than nothing at all.
        near = (self.lengths < 2 * len(piece)).nonzero().squeeze(1)
        if not len(near):
            return None
        lengths = self.lengths[near]
        others = self.bytes[near, : int(lengths.max())]
        distances = edit_distances(torch.tensor(list(piece)), others, lengths)
        least = int(distances.argmin())
        return self.numbers[int(near[least])] if int(distances[least]) < len(piece) else None
