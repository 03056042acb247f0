"""One text, cut by two tokenizers, as a batch: the student reads its tokens, the teacher its."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform
from tutelage.core.text import Encoded, TextTokenizer
from tutelage.data.text.alignment import Alignment, align
from tutelage.data.text.shift import next_tokens


@dataclass(frozen=True)
class Row:
    """One text for one of the two.

    Attributes:
        tokens: Its tokens, with those that begin and end it.
        groups: The group of each token, -1 for none; both rows of a text count them alike.
        counted: Which tokens count where they are predicted.
    """

    tokens: tuple[int, ...]
    groups: tuple[int, ...]
    counted: tuple[bool, ...]


def aligned_rows(
    text: str,
    student: TextTokenizer,
    teacher: TextTokenizer,
    *,
    answer: tuple[int, int] | None = None,
    longest: int | None = None,
) -> tuple[Row, Row]:
    """The student's row and the teacher's of one text.

    Each begins and ends with its tokenizer's own tokens for that, where there are such; the ends
    are one group. A group counts where every token of it is predicted, counted and kept on both
    sides: the first token of a row that nothing begins is not predicted, so its group falls away.
    Special tokens inside the text (an unknown word, a marker of chats) make no group with plain
    tokens: they do not stand for the same bytes.

    Args:
        text: What both read.
        student: Cuts it for the student.
        teacher: Cuts it for the teacher.
        answer: Bytes ``[start, stop)`` of the text whose tokens count; all if None. An answer that
            reaches the end of the text counts the token that ends it.
        longest: Tokens of a row at most; the rest is cut off.

    Raises:
        DataError: A tokenizer gives spans that are none.
    """
    begun = [_bounded(tokenizer, text, answer) for tokenizer in (student, teacher)]
    (ours, our_counted), (theirs, their_counted) = begun
    alignment = align(ours, theirs)
    groups = [[-1, *alignment.student, -1], [-1, *alignment.teacher, -1]]
    if student.end is not None and teacher.end is not None:
        groups[0][-1] = groups[1][-1] = alignment.groups
    mixed = _mixed(groups, (student, teacher), (ours, theirs))
    rows = []
    for tokenizer, encoded, side, counted in zip(
        (student, teacher), (ours, theirs), groups, (our_counted, their_counted), strict=True
    ):
        tokens = [tokenizer.begin, *encoded.tokens, tokenizer.end]
        kept = [place for place, token in enumerate(tokens) if token is not None]
        row = Row(
            tuple(tokens[place] for place in kept),  # type: ignore[misc]
            tuple(-1 if side[place] in mixed else side[place] for place in kept),
            tuple(counted[place] for place in kept),
        )
        rows.append(row)
    return _whole(rows[0], rows[1], longest)


def aligned_batch(
    rows: Sequence[tuple[Row, Row]],
    student: TextTokenizer,
    teacher: TextTokenizer,
    *,
    ids: Tensor | None = None,
) -> Batch:
    """Texts as a batch that both read.

    Its inputs, N rows each, padded on the right, the student's T and the teacher's T' long:

    ==========================  =======  ========================================================
    ``student.input_ids``       (N, T)   what the student reads
    ``student.attention_mask``  (N, T)   1 where a token is, 0 where the row is filled up
    ``student.group``           (N, T)   the group of the token that each position predicts,
                                         counted in its row from 0 on; -1 for none
    ``teacher.input_ids`` ...   (N, T')  likewise for the teacher
    ``teacher.targets``         (N, T')  the token that follows each of its positions, negative
                                         where none does
    ``teacher.mask``            (N, T')  which of its positions count, of bool
    ==========================  =======  ========================================================

    The batch's own targets and mask are the student's, so that objectives of one tokenizer
    (cross entropy) work on it as they are.

    Args:
        rows: Of `aligned_rows`.
        student: Fills the student's rows up.
        teacher: Fills the teacher's.
        ids: Numbers of the examples ``(N,)``.

    Raises:
        DataError: There are no rows, or none of them has a token to predict.
    """
    if not rows:
        raise DataError("a batch needs at least one text, and got none.")
    inputs: dict[str, Tensor] = {}
    ours = _side(inputs, "student", [row for row, _ in rows], student.padding)
    theirs = _side(inputs, "teacher", [row for _, row in rows], teacher.padding)
    inputs["teacher.targets"], inputs["teacher.mask"] = theirs
    return Batch(inputs, ours[0], ours[1], ids)


class AlignedTexts:
    """Texts as a source of batches for a teacher and a student with different tokenizers.

    The order of an epoch is a function of (seed, epoch). Every text is cut anew when its batch is
    made: nothing but the texts is held.

    Args:
        texts: What both read.
        student: The student's tokenizer.
        teacher: The teacher's.
        batch_size: Texts in a batch; the last of an epoch may be smaller.
        answers: For each text the bytes that count; all if None.
        ids: Numbers of the texts ``(N,)``, all different; 0 .. N-1 if None.
        longest: Tokens of a row at most; the rest is cut off.
        seed: Of the order.
        shuffle: Whether each epoch has an order of its own.

    Raises:
        DataError: There are no texts, or numbers do not belong to them.
    """

    views = 1

    def __init__(
        self,
        texts: Sequence[str],
        student: TextTokenizer,
        teacher: TextTokenizer,
        batch_size: int,
        *,
        answers: Sequence[tuple[int, int]] | None = None,
        ids: Tensor | None = None,
        longest: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ):
        ids = torch.arange(len(texts)) if ids is None else ids
        if not texts or len(ids) != len(texts) or (answers and len(answers) != len(texts)):
            raise DataError(
                f"got {len(texts)} texts, {len(ids)} numbers and {len(answers or texts)} answers: "
                "every text needs one number and one answer, and there must be at least one."
            )
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}, expected at least 1.")
        self.texts, self.student, self.teacher, self.ids = texts, student, teacher, ids
        self.answers, self.longest = answers, longest
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle

    def __len__(self) -> int:
        return -(-len(self.texts) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one numbered ``start`` on."""
        rows = torch.arange(len(self.texts))
        if self.shuffle:
            rows = uniform(derive(self.seed, "order", number), rows)[:, 0].argsort(stable=True)
        for chosen in torch.split(rows, self.batch_size)[start:]:
            yield self.batch(chosen)

    def batch(self, rows: Tensor) -> Batch:
        """The texts of ``rows``."""
        made = [
            aligned_rows(
                self.texts[row],
                self.student,
                self.teacher,
                answer=None if self.answers is None else self.answers[row],
                longest=self.longest,
            )
            for row in rows.tolist()
        ]
        return aligned_batch(made, self.student, self.teacher, ids=self.ids[rows])

    def in_order(self) -> "AlignedTexts":
        """The same texts in their own order."""
        return AlignedTexts(
            self.texts,
            self.student,
            self.teacher,
            self.batch_size,
            answers=self.answers,
            ids=self.ids,
            longest=self.longest,
            seed=self.seed,
            shuffle=False,
        )

    def identity(self) -> dict[str, Any]:
        """All that the inputs follow from, as plain data."""
        total = hashlib.sha256()
        for text, number in zip(self.texts, self.ids.tolist(), strict=True):
            total.update(f"{number} {len(text)};{text}".encode())
        total.update(repr(self.answers and [tuple(answer) for answer in self.answers]).encode())
        return {
            "data": total.hexdigest(),
            "student": self.student.fingerprint(),
            "teacher": self.teacher.fingerprint(),
            "longest": self.longest,
        }


def _bounded(
    tokenizer: TextTokenizer, text: str, answer: tuple[int, int] | None
) -> tuple[Encoded, list[bool]]:
    """The text's tokens; and whether each counts, with places for its begin and its end."""
    encoded = tokenizer.encode(text)
    if answer is None:
        return encoded, [True] * (len(encoded) + 2)
    start, stop = answer
    inside = [start <= low and high <= stop for low, high in encoded.spans]
    return encoded, [False, *inside, stop >= len(text.encode())]


def _mixed(
    groups: Sequence[Sequence[int]],
    tokenizers: tuple[TextTokenizer, TextTokenizer],
    texts: tuple[Encoded, Encoded],
) -> set[int]:
    """Groups of text that hold tokens without bytes of their own, and plain ones."""
    silent: set[int] = set()
    plain: set[int] = set()
    for side, tokenizer, encoded in zip(groups, tokenizers, texts, strict=True):
        for group, token in zip(side[1:-1], encoded.tokens, strict=True):
            (plain if tokenizer.token_bytes(token) else silent).add(group)
    return silent & plain


def _whole(ours: Row, theirs: Row, longest: int | None) -> tuple[Row, Row]:
    """Rows cut off where they are too long, with the groups that are whole, numbered anew."""
    marks = [
        [
            place > 0 and counted and (longest is None or place < longest)
            for place, counted in enumerate(row.counted)
        ]
        for row in (ours, theirs)
    ]
    whole = Alignment(ours.groups, theirs.groups).only(*marks)
    first, second = (
        Row(row.tokens[:longest], groups[:longest], row.counted[:longest])
        for row, groups in ((ours, whole.student), (theirs, whole.teacher))
    )
    return first, second


def _side(
    inputs: dict[str, Tensor], whose: str, rows: Sequence[Row], padding: int
) -> tuple[Tensor, Tensor]:
    """Put one's entries into ``inputs``; its targets and its mask."""
    length = max(len(row.tokens) for row in rows)
    if length < 2:
        raise DataError(
            f"no text of this batch has a token that the {whose} could predict: texts must have "
            "two tokens at least, or one behind a token that begins them."
        )
    tokens = torch.full((len(rows), length), padding)
    groups, real = torch.full_like(tokens, -1), torch.zeros_like(tokens)
    counted = torch.zeros_like(tokens, dtype=torch.bool)
    for place, row in enumerate(rows):
        size = len(row.tokens)
        tokens[place, :size] = torch.tensor(row.tokens, dtype=torch.int64)
        groups[place, :size] = torch.tensor(row.groups, dtype=torch.int64)
        counted[place, :size] = torch.tensor(row.counted, dtype=torch.bool)
        real[place, :size] = 1
    # Documents: one in each row, and none in what fills it up.
    inputs[f"{whose}.input_ids"], targets, mask = next_tokens(tokens, counted, real - 1)
    inputs[f"{whose}.attention_mask"] = real[:, : length - 1]
    _, following, _ = next_tokens(groups, counted, real - 1)
    inputs[f"{whose}.group"] = torch.where(mask, following, -1)
    return targets, mask
