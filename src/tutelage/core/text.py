"""Between text and the numbers that language models read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Encoded:
    """A text as tokens.

    Attributes:
        tokens: Their numbers.
        spans: Where each lies in the UTF-8 bytes of the text, ``[start, stop)``. They go forward
            and leave nothing out but what the tokenizer itself drops; where several tokens share
            one character, each has its own bytes of it. Special tokens that stand for no text
            have an empty span.

    Example:
        >>> Encoded((104, 105), ((0, 1), (1, 2))).tokens
        (104, 105)
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.tokens)


@runtime_checkable
class TextTokenizer(Protocol):
    """What cuts text into tokens: bytes, characters, a trained BPE, or that of a model."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def size(self) -> int:
        """How many numbers there are: 0 .. size-1. A model's head may have more rows."""
        ...

    @property
    def begin(self) -> int | None:
        """Number of the token that begins a document; None where there is none."""
        ...

    @property
    def end(self) -> int | None:
        """Number of the token that ends a document or an answer; None where there is none."""
        ...

    @property
    def padding(self) -> int:
        """Number of the token that fills rows up; what stands there is masked, so any will do."""
        ...

    @property
    def special(self) -> frozenset[int]:
        """Numbers of tokens that stand for no text."""
        ...

    def encode(self, text: str) -> Encoded:
        """A text as tokens, without tokens that begin or end it."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text; special ones are left out."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes of text that a token stands for, empty for special ones."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that tokens follow from."""
        ...
