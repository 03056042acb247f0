"""Tokenizers that need no library: bytes, and the characters of a text."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.core.text import Encoded

_BYTES = 256


class ByteTokenizer:
    """Every byte of the UTF-8 text is a token; number 256 ends a document.

    Example:
        >>> tokenizer = ByteTokenizer()
        >>> tokenizer.encode("aé").tokens, tokenizer.decode([97, 195, 169, 256])
        ((97, 195, 169), 'aé')
    """

    name = "bytes"
    size = _BYTES + 1
    begin: int | None = None
    end: int | None = _BYTES
    padding = _BYTES
    special = frozenset({_BYTES})

    def encode(self, text: str) -> Encoded:
        """A text as its bytes."""
        raw = text.encode()
        return Encoded(tuple(raw), tuple((i, i + 1) for i in range(len(raw))))

    def numbers(self, text: str) -> NDArray[np.int32]:
        """The tokens alone ``(L,)``, fast."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text; bytes that are no UTF-8 become U+FFFD."""
        return bytes(t for t in tokens if t < _BYTES).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The byte itself."""
        return bytes([token]) if 0 <= token < _BYTES else b""

    def fingerprint(self) -> str:
        """SHA-256 (hex) of its name: there is nothing else to it."""
        return hashlib.sha256(b"bytes, 256 ends").hexdigest()

    def stated(self) -> dict[str, Any]:
        """Plain data that `restored` makes it of again."""
        return {"bytes": {}}


class CharacterTokenizer:
    """Every character of an alphabet is a token.

    After the characters come two more: ``unknown``, for any other character (it decodes to
    U+FFFD), and ``end``.

    Args:
        alphabet: The characters, in any order.

    Raises:
        DataError: There are none.

    Example:
        >>> tokenizer = CharacterTokenizer("hello")
        >>> tokenizer.encode("hole").tokens, tokenizer.decode(tokenizer.encode("help").tokens)
        ((1, 3, 2, 0), 'hel�')
    """

    name = "characters"
    begin: int | None = None

    def __init__(self, alphabet: Iterable[str]):
        self.alphabet = "".join(sorted(set(alphabet)))
        if not self.alphabet:
            raise DataError("the alphabet is empty: give a text that has characters.")
        self._numbers = {character: number for number, character in enumerate(self.alphabet)}
        self.unknown, self.end = len(self.alphabet), len(self.alphabet) + 1
        self.size, self.padding, self.special = self.end + 1, self.end, frozenset({self.end})

    def encode(self, text: str) -> Encoded:
        """A text as its characters."""
        tokens = tuple(self._numbers.get(character, self.unknown) for character in text)
        stops = np.cumsum([len(character.encode()) for character in text]).tolist()
        return Encoded(tokens, tuple(zip([0, *stops], stops, strict=False)))

    def numbers(self, text: str) -> NDArray[np.int32]:
        """The tokens alone ``(L,)``, fast."""
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        known = np.frombuffer(self.alphabet.encode("utf-32-le"), "<u4")  # sorted by code point
        places = np.searchsorted(known, points).clip(max=len(known) - 1)
        found: NDArray[np.int32] = np.where(known[places] == points, places, self.unknown).astype(
            np.int32
        )
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text."""
        return "".join((self.alphabet + "\ufffd")[t] for t in tokens if t not in self.special)

    def token_bytes(self, token: int) -> bytes:
        """The character's bytes; those of U+FFFD for the unknown one."""
        return self.decode([token]).encode()

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the alphabet."""
        return hashlib.sha256(f"characters\x1f{self.alphabet}".encode()).hexdigest()

    def stated(self) -> dict[str, Any]:
        """Plain data that `restored` makes it of again."""
        return {"characters": {"alphabet": self.alphabet}}


@register("tokenizer", "bytes")
def byte_tokenizer(texts: Sequence[str]) -> ByteTokenizer:
    """Every byte of the UTF-8 text is a token: 257 of them, and no text is unknown.

    Args:
        texts: Not looked at.
    """
    return ByteTokenizer()


@register("tokenizer", "characters")
def character_tokenizer(texts: Sequence[str], alphabet: str | None = None) -> CharacterTokenizer:
    """Every character that the training text has is a token, and one more is any other.

    Args:
        texts: Of the train split.
        alphabet: The characters, instead of those of the text.
    """
    found = set() if alphabet is not None else set().union(*map(set, texts))
    return CharacterTokenizer(found if alphabet is None else alphabet)
