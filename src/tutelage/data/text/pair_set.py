"""A set of texts and what is answered to each: what encoder-decoders learn from."""

import copy

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.text import TextTokenizer
from tutelage.data.text.sentence_set import SentenceSet
from tutelage.data.text.stored import digest_of
from tutelage.data.text.token_set import TokenSet


class PairSet:
    """Texts ``(N, S)``, and answers of T + 1 tokens, each of which predicts the next.

    It has the face of `Examples`. A batch has ``input_ids`` and ``attention_mask`` ``(N, S)`` of
    the texts, ``decoder_input_ids`` and ``decoder_attention_mask`` ``(N, T)`` of the answers, and
    targets and a mask ``(N, T)`` as `TokenSet` makes them of the answers.

    Args:
        texts: What is read.
        answers: What is written: each row begins with the token that a decoder starts from.

    Raises:
        DataError: They are not as many, or of two vocabularies.

    Example:
        >>> texts = SentenceSet(torch.tensor([[5, 6, 1]]), torch.tensor([3]), vocabulary=9)
        >>> answers = TokenSet(torch.tensor([[0, 7, 1]]), vocabulary=9, lengths=torch.tensor([3]))
        >>> batch = PairSet(texts, answers).batch(torch.tensor([0]))
        >>> batch.inputs["decoder_input_ids"].tolist(), batch.targets.tolist()
        ([[0, 7]], [[7, 1]])
    """

    classes: tuple[str, ...] = ()
    """Always empty: what is predicted is a token, one of ``vocabulary``."""

    def __init__(self, texts: SentenceSet, answers: TokenSet):
        if len(texts) != len(answers) or texts.vocabulary != answers.vocabulary:
            raise DataError(
                f"{texts.name} has {len(texts)} texts of {texts.vocabulary} different tokens and "
                f"{len(answers)} answers of {answers.vocabulary}: one answer to each text, and one "
                "vocabulary, are needed."
            )
        self.texts, self.answers = texts, answers

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def name(self) -> str:
        """What messages call this set."""
        return self.answers.name

    @property
    def ids(self) -> Tensor:
        """Example numbers ``(N,)``: those of the answers."""
        return self.answers.ids

    @property
    def vocabulary(self) -> int:
        """How many token numbers there are."""
        return self.answers.vocabulary

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """What made the tokens."""
        return self.answers.tokenizer

    @property
    def units(self) -> int:
        """How many predictions count in all."""
        return self.answers.units

    @property
    def example_shape(self) -> tuple[int, ...]:
        """``(T,)``: the tokens of an answer that are read."""
        return self.answers.example_shape

    @property
    def widths(self) -> Tensor:
        """Columns ``(N,)`` that each answer needs, of the T there are."""
        return self.answers.widths

    @property
    def targets(self) -> Tensor:
        """The token that follows each place of an answer ``(N, T)``, negative where none does."""
        return self.answers.targets

    def fetch(self, rows: Tensor) -> Tensor:
        """The stored tokens of the texts of ``rows`` ``(n, S)`` of int64."""
        return self.texts.fetch(rows)

    def batch(self, rows: Tensor, width: int | None = None) -> Batch:
        """The examples of ``rows`` as a batch.

        Args:
            rows: Which ``(n,)``.
            width: How many columns of answers, where the rows need no more (`widths`); texts are
                then cut to the longest of them. None for all S and T.
        """
        answers = self.answers.batch(rows, width)
        longest = None if width is None else int(self.texts.widths[rows].max())
        assert not isinstance(answers.inputs, Tensor)
        written = answers.inputs["input_ids"]
        filled = answers.inputs.get("attention_mask", torch.ones_like(written))
        read = self.texts.batch(rows, longest).inputs
        assert not isinstance(read, Tensor)
        named = {**read, "decoder_input_ids": written, "decoder_attention_mask": filled}
        return Batch(named, answers.targets, answers.mask, answers.ids)

    def take(self, rows: Tensor) -> "PairSet":
        """The sub-set of ``rows``, in their order; ids stay."""
        return PairSet(self.texts.take(rows), self.answers.take(rows))

    def with_targets(self, targets: Tensor | None) -> "PairSet":
        """The same pairs where every token of an answer counts, for None.

        Raises:
            DataError: Targets were given: they follow from the answers.
        """
        other = copy.copy(self)
        other.answers = self.answers.with_targets(targets)
        return other

    def fingerprint(self) -> str:
        """SHA-256 (hex) over texts and answers."""
        return digest_of(self.texts.fingerprint(), self.answers.fingerprint())
