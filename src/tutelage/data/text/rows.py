"""What all sets of rows of tokens are: rows of one width, kept small, of which some are taken."""

import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.text import TextTokenizer
from tutelage.data.sets import checked_ids
from tutelage.data.text.stored import compact, lengths_of


class Rows:
    """Rows of tokens ``(N, L)``, filled up on the right, of which ``L - ahead`` are read.

    It is kept in two bytes a token where the vocabulary allows.

    Args:
        tokens: ``(N, L)`` of any integer type.
        lengths: Tokens of each row that are not filling ``(N,)``; None where no row is filled up.
        vocabulary: How many token numbers there are; None for the tokenizer's, else as many as
            are used.
        ids: Example numbers ``(N,)``, all different; None for 0 .. N-1.
        name: What messages call this set.
        tokenizer: What made the tokens.

    Raises:
        DataError: Shapes or numbers out of range.
    """

    ahead: ClassVar[int] = 0
    """Tokens at the end of a row that are predicted and not read."""

    by_row: ClassVar[tuple[str, ...]] = ("tokens", "lengths", "ids")
    """Attributes that have something for each row, or are None."""

    def __init__(
        self,
        tokens: Tensor,
        lengths: Tensor | None,
        *,
        vocabulary: int | None,
        ids: Tensor | None,
        name: str,
        tokenizer: TextTokenizer | None,
    ):
        known = vocabulary if vocabulary is not None or tokenizer is None else tokenizer.size
        self.tokens, self.vocabulary = compact(tokens, known, name, least=1 + self.ahead)
        self.lengths = lengths_of(lengths, self.tokens, name, least=1 + self.ahead)
        self.ids = checked_ids(ids, len(self.tokens), name)
        self.name, self.tokenizer = name, tokenizer

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """``(T,)``: the tokens that are read."""
        return (self.tokens.shape[1] - self.ahead,)

    @property
    def widths(self) -> Tensor:
        """Columns ``(N,)`` that each row needs, of the T there are: filling needs none."""
        if self.lengths is None:
            return torch.full((len(self),), self.example_shape[0])
        return self.lengths.long() - self.ahead

    def fetch(self, rows: Tensor) -> Tensor:
        """The stored tokens of ``rows`` ``(n, L)`` of int64."""
        return self.tokens[rows].long()

    def take(self, rows: Tensor) -> Self:
        """The sub-set of ``rows``, in their order; ids and all else stay."""
        part = copy.copy(self)
        for name in self.by_row:
            whole = getattr(self, name)
            setattr(part, name, None if whole is None else whole[rows])
        if not len(part):
            raise DataError(f"{self.name} would be left without examples: take some rows.")
        return part

    def columns(self, rows: Tensor, width: int | None) -> int:
        """How many columns a batch of ``rows`` has; None for all T.

        Raises:
            DataError: A row needs more.
        """
        (full,) = self.example_shape
        width = full if width is None else width
        needed = int(self.widths[rows].max()) if width < full and len(rows) else 0
        if not needed <= width <= full:
            raise DataError(
                f"width is {width}, and these rows of {self.name} need {needed} to {full} columns."
            )
        return width
