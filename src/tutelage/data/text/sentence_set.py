"""A set of labelled sentences: what encoders learn from."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.text import TextTokenizer
from tutelage.data.sets import checked_targets
from tutelage.data.text.rows import Rows
from tutelage.data.text.stored import digest_of


class SentenceSet(Rows):
    """Sentences as rows of tokens, each of one class.

    It has the face of `Examples`. A batch has ``input_ids`` and ``attention_mask`` ``(N, T)``, and
    class numbers ``(N,)`` as targets.

    Args:
        tokens: ``(N, T)`` of any integer type, filled up on the right.
        lengths: Tokens of each sentence that are not filling ``(N,)``, at least 1.
        targets: Class numbers ``(N,)``, negative where unlabelled; or None.
        classes: Names of the classes, in the order of their numbers.
        vocabulary: How many token numbers there are; None for the tokenizer's, else as many as
            are used.
        ids: Example numbers ``(N,)``, all different; None for 0 .. N-1.
        name: What messages call this set.
        tokenizer: What made the tokens.

    Raises:
        DataError: Shapes or numbers out of range.

    Example:
        >>> pair = SentenceSet(
        ...     torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([3, 1]), torch.tensor([1, -1]),
        ...     classes=("bad", "good"),
        ... )
        >>> batch = pair.batch(torch.tensor([1, 0]))
        >>> batch.inputs["attention_mask"].tolist(), batch.targets.tolist()
        ([[1, 0, 0], [1, 1, 1]], [-1, 1])
    """

    by_row = (*Rows.by_row, "targets")

    def __init__(
        self,
        tokens: Tensor,
        lengths: Tensor,
        targets: Tensor | None = None,
        *,
        classes: Sequence[str] = (),
        vocabulary: int | None = None,
        ids: Tensor | None = None,
        name: str = "sentences",
        tokenizer: TextTokenizer | None = None,
    ):
        super().__init__(
            tokens, lengths, vocabulary=vocabulary, ids=ids, name=name, tokenizer=tokenizer
        )
        self.classes = tuple(classes)
        self.targets = checked_targets(targets, len(self.tokens), self.classes, name)

    def batch(self, rows: Tensor, width: int | None = None) -> Batch:
        """The examples of ``rows`` as a batch.

        Args:
            rows: Which ``(n,)``.
            width: How many columns, where the rows need no more (`widths`); None for all T.

        Raises:
            DataError: A row needs more columns.
        """
        width = self.columns(rows, width)
        read = torch.arange(width) < self.widths[rows][:, None]
        inputs = {
            "input_ids": self.tokens[rows][:, :width].long(),
            "attention_mask": read.long(),
        }
        targets = None if self.targets is None else self.targets[rows]
        return Batch(inputs, targets, ids=self.ids[rows])

    def with_targets(self, targets: Tensor | None) -> "SentenceSet":
        """The same sentences with other targets."""
        other = copy.copy(self)
        other.targets = checked_targets(targets, len(self), self.classes, self.name)
        return other

    def fingerprint(self) -> str:
        """SHA-256 (hex) over tokens, lengths, targets, ids and class names."""
        words = "\x1f".join(self.classes)
        return digest_of(self.tokens, self.lengths, self.targets, self.ids, words)
