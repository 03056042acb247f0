"""Two tokenizers cut one text: which of their tokens stand for the same bytes.

A cut of the student and a cut of the teacher are common where both fall into the same place. Groups
are what lies between neighbouring common cuts: the finest parts into which both cut the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.core.text import Encoded

Array = NDArray[np.int64]

Roles = Mapping[int, str]
"""What special tokens are for, by number: ``{0: "begin", 2: "end"}``."""


@dataclass(frozen=True)
class Alignment:
    """Which tokens of two encodings of one text belong together.

    Attributes:
        student: The number of each token's group, in the order of the text from 0 on; -1 for a
            token that belongs to none.
        teacher: Likewise.

    Example:
        >>> Alignment((0, 1, 1), (0, 1)).groups
        2
    """

    student: tuple[int, ...]
    teacher: tuple[int, ...]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return max((*self.student, *self.teacher), default=-1) + 1

    def only(self, student: Sequence[bool], teacher: Sequence[bool]) -> "Alignment":
        """The groups of which every token is marked, on both sides, numbered anew.

        A group of which one token is missing (nobody predicts a document's first token, an answer
        begins in the middle of a word, a row was cut off) has no likelihood that could be compared.

        Args:
            student: One mark for each of the student's tokens.
            teacher: One for each of the teacher's.

        Raises:
            DataError: There is not one mark for each token.

        Example:
            >>> Alignment((0, 1, 1, 2), (0, 1, 2)).only([True, False, True, True], [True] * 3)
            Alignment(student=(0, -1, -1, 1), teacher=(0, -1, 1))
        """
        broken = _broken(self.student, student) | _broken(self.teacher, teacher)
        whole = set(self.student) & set(self.teacher) - broken - {-1}
        number = {group: place for place, group in enumerate(sorted(whole))}
        return Alignment(
            tuple(number.get(group, -1) for group in self.student),
            tuple(number.get(group, -1) for group in self.teacher),
        )


def align(
    student: Encoded,
    teacher: Encoded,
    *,
    student_roles: Roles | None = None,
    teacher_roles: Roles | None = None,
) -> Alignment:
    """Align two encodings of one whole text, in time that grows with its tokens alone.

    A space before a word belongs to the word for one tokenizer, to nothing for another, which drops
    it: a cut may lie anywhere in what its tokenizer drops, so both cut before that word. Cuts go by
    bytes, so characters whose bytes are several tokens are aligned too. What only one of the two
    has (a line break that the other drops) is in no group.

    Tokens that stand for no text have empty spans. Two of them are a group where they have one role
    and stand in the same place: so the begin of a document meets the begin alone, and a tokenizer
    that has none leaves the other's out.

    Args:
        student: The text, as the student's tokenizer cuts it.
        teacher: The same text, as the teacher's does.
        student_roles: Roles of the student's special tokens; those without one are in no group.
        teacher_roles: Roles of the teacher's.

    Raises:
        DataError: A span ends before it starts, or there is not one for each token.

    Example:
        >>> ours = Encoded((5, 6, 7), ((0, 2), (2, 5), (5, 11)))  # he | llo | _world
        >>> theirs = Encoded((1, 2, 3), ((0, 5), (6, 8), (8, 11)))  # hello | wo | rld
        >>> align(ours, theirs)
        Alignment(student=(0, 0, 1), teacher=(0, 1, 1))
    """
    ours, theirs = _Side(student, "student"), _Side(teacher, "teacher")
    cuts = common_cuts(ours.spans, theirs.spans)
    # Behind each cut but the last lies a group, where both have tokens before the next.
    filled = (np.diff(cuts, axis=0) > 0).all(1)
    pairs = _special_pairs(ours, theirs, cuts, student_roles or {}, teacher_roles or {})
    added = np.zeros(len(cuts), np.int64)
    np.add.at(added, [cut for cut, _, _ in pairs], 1)
    numbers = np.where(filled, np.cumsum(filled) - 1 + np.cumsum(added)[:-1], -1)
    of_ours = ours.spread(np.repeat(numbers, np.diff(cuts[:, 0])))
    of_theirs = theirs.spread(np.repeat(numbers, np.diff(cuts[:, 1])))
    before = np.concatenate([[0], np.cumsum(filled)])
    for place, (cut, a, b) in enumerate(pairs):
        of_ours[a] = of_theirs[b] = before[cut] + place
    return Alignment(tuple(of_ours.tolist()), tuple(of_theirs.tolist()))


def common_cuts(student: Array, teacher: Array) -> Array:
    """Where both cut: how many tokens of the student and of the teacher lie before, in order.

    The first cut is before all tokens, the last behind all of them.

    Args:
        student: Spans that are not empty, ``(S, 2)``.
        teacher: Likewise, of the same text, ``(T, 2)``.

    Returns:
        ``(K, 2)`` of int64.

    Example:
        >>> common_cuts(np.array([[0, 2], [2, 4]]), np.array([[0, 1], [1, 2], [2, 4]])).tolist()
        [[0, 0], [1, 2], [2, 3]]
    """
    ours, low, high = _cuts(student)
    theirs, their_low, their_high = _cuts(teacher)
    # Intervals of one side lie apart and in order, so those that meet one interval are neighbours.
    first = np.searchsorted(their_high, low, side="left")
    behind = np.searchsorted(their_low, high, side="right")
    met = np.maximum(behind - first, 0)
    within = np.arange(met.sum()) - np.repeat(np.cumsum(met) - met, met)
    found: Array = np.stack([np.repeat(ours, met), theirs[np.repeat(first, met) + within]], axis=1)
    return found


def encoded_pieces(pieces: Sequence[bytes], numbers: Sequence[int] | None = None) -> Encoded:
    """The tokens of a text by their bytes, as a text server tells them.

    With the log-probabilities that come along this is all that likelihood matching needs of a
    teacher: its vocabulary and tokenizer may stay unknown.

    Args:
        pieces: The bytes of each token, in order; empty for special ones.
        numbers: Their numbers; all 0 where they are unknown.

    Raises:
        DataError: There is not one number for each piece.

    Example:
        >>> encoded_pieces([b"Hel", b"lo", b" you"]).spans
        ((0, 3), (3, 5), (5, 9))
    """
    numbers = [0] * len(pieces) if numbers is None else numbers
    if len(numbers) != len(pieces):
        raise DataError(f"got {len(pieces)} pieces of text and {len(numbers)} token numbers.")
    spans, start = [], 0
    for piece in pieces:
        spans.append((start, start + len(piece)))
        start += len(piece)
    return Encoded(tuple(numbers), tuple(spans))


class _Side:
    """One encoding: its tokens of text, and the others by how many of those stand before."""

    def __init__(self, encoded: Encoded, whose: str):
        if len(encoded.spans) != len(encoded.tokens):
            raise DataError(
                f"the {whose}'s text has {len(encoded.tokens)} tokens and {len(encoded.spans)} "
                "spans: every token needs one, an empty one where it stands for no text."
            )
        spans = np.array(encoded.spans, np.int64).reshape(-1, 2)
        backwards = np.flatnonzero(spans[:, 1] < spans[:, 0])
        if len(backwards):
            start, stop = spans[backwards[0]].tolist()
            raise DataError(
                f"token {backwards[0]} of the {whose}'s text ends at byte {stop}, before it starts "
                f"at {start}: spans are [start, stop)."
            )
        text = spans[:, 1] > spans[:, 0]
        self.places, self.spans, self.count = np.flatnonzero(text), spans[text], len(spans)
        before = np.cumsum(text)
        self.special: dict[int, list[tuple[int, int]]] = {}
        for place in np.flatnonzero(~text).tolist():
            token = (place, encoded.tokens[place])
            self.special.setdefault(int(before[place]), []).append(token)

    def spread(self, groups: Array) -> Array:
        """The groups of the tokens of text as groups of all tokens."""
        every = np.full(self.count, -1, np.int64)
        every[self.places] = groups
        return every


def _cuts(spans: Array) -> tuple[Array, Array, Array]:
    """Where a tokenizer cuts: tokens before, and the bytes between which the cut may lie.

    No cut lies inside bytes that two tokens share.
    """
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    low = np.maximum.accumulate(np.concatenate([[least], spans[:, 1]]))
    high = np.minimum.accumulate(np.concatenate([spans[:, 0], [most]])[::-1])[::-1]
    before = np.flatnonzero(low <= high)
    return before, low[before], high[before]


def _special_pairs(
    ours: _Side, theirs: _Side, cuts: Array, student_roles: Roles, teacher_roles: Roles
) -> list[tuple[int, int, int]]:
    """Special tokens of one role at one cut, in order: cut, student's place, teacher's place."""
    pairs: list[tuple[int, int, int]] = []
    if not ours.special or not theirs.special:
        return pairs
    taken = -1
    for cut, (before, other) in enumerate(cuts.tolist()):
        waiting = theirs.special.get(other, [])
        for place, token in ours.special.get(before, []):
            role = student_roles.get(token)
            if role is None or (pairs and place <= pairs[-1][1]):
                continue
            for there, other_token in waiting:
                if there > taken and teacher_roles.get(other_token) == role:
                    pairs.append((cut, place, there))
                    taken = there
                    break
    return pairs


def _broken(groups: Sequence[int], marks: Sequence[bool]) -> set[int]:
    if len(groups) != len(marks):
        raise DataError(f"got {len(marks)} marks for {len(groups)} tokens: one each is wanted.")
    return {group for group, mark in zip(groups, marks, strict=True) if not mark}
