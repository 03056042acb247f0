"""A set of rows of tokens, each to predict the next: what language models learn from."""

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.text import TextTokenizer
from tutelage.data.text.packing import Packed
from tutelage.data.text.rows import Rows
from tutelage.data.text.shift import next_tokens
from tutelage.data.text.stored import digest_of, marks_of

_AT_ONCE = 4096


class TokenSet(Rows):
    """Rows of L = T + 1 tokens: T are read, and each predicts the one after it.

    It has the face of `Examples`, and is kept in two bytes a token where the vocabulary allows.
    A batch has ``input_ids`` ``(N, T)``, targets ``(N, T)`` and a mask ``(N, T)`` of the
    predictions that count (`tutelage.data.text.shift.next_tokens`). Rows of one document that are
    filled up bring ``attention_mask`` ``(N, T)``. Rows that several documents may share bring
    ``position_ids`` ``(N, T)`` instead, which begin anew at each document and at the filling: a
    model must let no attention cross there, and then needs no other mask.

    Args:
        tokens: ``(N, L)`` of any integer type, filled up on the right.
        vocabulary: How many token numbers there are; None for the tokenizer's, else as many as
            are used.
        lengths: Tokens of each row that are not filling ``(N,)``, at least 2; None where no row
            is filled up.
        counted: Which tokens are to be predicted ``(N, L)`` of bool; None for all.
        begins: Where a document begins ``(N, L)`` of bool, everywhere in the first column; None
            where each row is one.
        ids: Example numbers ``(N,)``, all different; None for 0 .. N-1.
        name: What messages call this set.
        tokenizer: What made the tokens.

    Raises:
        DataError: Shapes or numbers out of range, or a row that has nothing to predict.

    Example:
        >>> pair = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0]])
        >>> rows = TokenSet(pair, lengths=torch.tensor([4, 2]))
        >>> batch = rows.batch(torch.tensor([1]))
        >>> batch.inputs["input_ids"].tolist(), batch.inputs["attention_mask"].tolist()
        ([[8, 2, 0]], [[1, 1, 0]])
        >>> batch.targets.tolist(), batch.mask.tolist(), batch.count
        ([[2, -1, -1]], [[True, False, False]], 1)
    """

    classes: tuple[str, ...] = ()
    """Always empty: what is predicted is a token, one of ``vocabulary``."""

    ahead = 1
    by_row = (*Rows.by_row, "counted", "begins")

    def __init__(
        self,
        tokens: Tensor,
        *,
        vocabulary: int | None = None,
        lengths: Tensor | None = None,
        counted: Tensor | None = None,
        begins: Tensor | None = None,
        ids: Tensor | None = None,
        name: str = "text",
        tokenizer: TextTokenizer | None = None,
    ):
        super().__init__(
            tokens, lengths, vocabulary=vocabulary, ids=ids, name=name, tokenizer=tokenizer
        )
        self.counted = marks_of(counted, self.tokens, f"counted of {name}")
        self.begins = marks_of(begins, self.tokens, f"begins of {name}")
        if self.begins is not None and not bool(self.begins[:, 0].all()):
            raise DataError(f"begins of {name} must hold in the first column: a row begins there.")
        self.units = self._checked_units()

    @classmethod
    def of(
        cls,
        packed: Packed,
        *,
        padded: bool = True,
        ids: Tensor | None = None,
        name: str = "text",
        tokenizer: TextTokenizer | None = None,
    ) -> "TokenSet":
        """The set of rows that `tutelage.data.text.pack` made.

        Args:
            packed: The rows.
            padded: Whether batches have an ``attention_mask`` where no rows are shared: to be said
                alike for all splits, as one may be filled up where another is not.
            ids: As above.
            name: As above.
            tokenizer: As above.
        """
        return cls(
            packed.tokens,
            lengths=packed.lengths if padded or packed.begins is not None else None,
            counted=packed.counted,
            begins=packed.begins,
            ids=ids,
            name=name,
            tokenizer=tokenizer,
        )

    @property
    def targets(self) -> Tensor:
        """The token that follows each position ``(N, T)``, negative where none does: made anew."""
        return torch.cat([targets for _, targets, _ in self._shifted()])

    def batch(self, rows: Tensor, width: int | None = None) -> Batch:
        """The examples of ``rows`` as a batch.

        Args:
            rows: Which ``(n,)``.
            width: How many columns, where the rows need no more (`widths`); None for all T.

        Raises:
            DataError: A row needs more columns.
        """
        columns = self.columns(rows, width) + self.ahead
        documents, positions = self._documents(rows, columns)
        counted = None if self.counted is None else self.counted[rows][:, :columns]
        tokens = self.tokens[rows][:, :columns]
        inputs, targets, mask = next_tokens(tokens, counted, documents)
        named = {"input_ids": inputs}
        if positions is not None:
            named["position_ids"] = positions[:, :-1]
        elif documents is not None:
            named["attention_mask"] = (documents[:, :-1] >= 0).long()
        return Batch(named, targets, mask, self.ids[rows])

    def take(self, rows: Tensor) -> Self:
        """The sub-set of ``rows``, in their order; ids stay."""
        part = super().take(rows)
        part.units = part._checked_units()
        return part

    def with_targets(self, targets: Tensor | None) -> "TokenSet":
        """The same rows where every token counts, for None; targets cannot be others.

        Raises:
            DataError: Targets were given.
        """
        if targets is not None:
            raise DataError(
                f"targets of {self.name} follow from its tokens: other ones cannot be given; make "
                "another set, or mark in counted what is to be predicted."
            )
        bare = copy.copy(self)
        bare.counted = None
        bare.units = bare._checked_units()
        return bare

    def fingerprint(self) -> str:
        """SHA-256 (hex) over tokens, lengths, marks and ids."""
        return digest_of(self.tokens, self.lengths, self.counted, self.begins, self.ids)

    def _documents(self, rows: Tensor, columns: int) -> tuple[Tensor | None, Tensor | None]:
        """Which document each token is of, negative for filling; and its place in it."""
        if self.lengths is None and self.begins is None:
            return None, None
        place = torch.arange(columns).expand(len(rows), -1)
        documents, positions = torch.zeros_like(place), None
        lengths = torch.full((len(rows), 1), columns)
        if self.lengths is not None:
            lengths = self.lengths[rows].long()[:, None]
        if self.begins is not None:
            begins = self.begins[rows][:, :columns] | (place == lengths)
            documents = begins.cumsum(1)
            positions = place - torch.where(begins, place, 0).cummax(1).values
        return documents.masked_fill(place >= lengths, -1), positions

    def _shifted(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        columns = self.tokens.shape[1]
        for start in range(0, len(self), _AT_ONCE):
            rows = torch.arange(start, min(start + _AT_ONCE, len(self)))
            counted = None if self.counted is None else self.counted[rows]
            documents, _ = self._documents(rows, columns)
            yield next_tokens(self.tokens[rows], counted, documents)

    def _checked_units(self) -> int:
        """How many predictions count in all; each row must have some."""
        total = 0
        for number, (_, _, mask) in enumerate(self._shifted()):
            each = mask.sum(1)
            if not bool(each.all()):
                row = number * _AT_ONCE + int((each == 0).int().argmax())
                raise DataError(
                    f"row {row} of {self.name} has nothing to predict: leave rows out whose answer "
                    "is empty or was cut off."
                )
            total += int(each.sum())
        return total
