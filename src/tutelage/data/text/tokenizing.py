"""From what a recipe writes under ``tokenizer`` to a tokenizer, and from texts to numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import build
from tutelage.core.text import TextTokenizer
from tutelage.data.text.bpe import kept
from tutelage.data.text.pretrained import hf_tokenizer

Tokens = NDArray[np.int32]
"""Token numbers of one text ``(L,)``."""
LONG = ("refuse", "cut")
"""What becomes of texts that are too long."""


@runtime_checkable
class Fast(Protocol):
    """A tokenizer that can leave out where tokens lie."""

    def numbers(self, text: str) -> Tokens:
        """The tokens alone ``(L,)``."""
        ...


@runtime_checkable
class Stated(Protocol):
    """A tokenizer that plain data can make again."""

    def stated(self) -> Mapping[str, Any]:
        """What `restored` takes."""
        ...


def tokenizer_of(written: str | Mapping[str, Any], texts: Sequence[str] = ()) -> TextTokenizer:
    """The tokenizer that ``written`` names.

    Args:
        written: ``bytes``, ``characters``, ``{bpe: {size: 4096}}``, ``{hf: {path: folder}}`` or
            ``hf:folder``.
        texts: What it may learn from: the train split alone, so that nothing of the test is known.

    Raises:
        RecipeError: There is no such tokenizer or option.
        DataError: It cannot be made.

    Example:
        >>> tokenizer_of("characters", ["aloha"]).size
        6
    """
    if isinstance(written, str) and written.startswith("hf:"):
        written = {"hf": {"path": written.removeprefix("hf:")}}
    name, options = _named(written)
    made = build("tokenizer", name, options, texts=texts)
    if not isinstance(made, TextTokenizer):
        raise RecipeError(f"tokenizer {name!r} made a {type(made).__name__}, which is none.")
    return made


def restored(stated: Mapping[str, Any]) -> TextTokenizer:
    """The tokenizer that plain data tells of, as `Splits.stored` has it under ``tokenizer``.

    Raises:
        DataError: It tells of none.

    Example:
        >>> first = tokenizer_of("characters", ["aloha"])
        >>> restored(first.stated()).fingerprint() == first.fingerprint()
        True
    """
    name, options = _named(stated)
    if name == "bpe" and "written" in options:
        return kept(options["written"])
    if name == "hf":
        return hf_tokenizer((), **options)
    return tokenizer_of(stated)


def numbers(tokenizer: TextTokenizer, text: str) -> Tokens:
    """The tokens of a text ``(L,)``, without their places where that is faster."""
    if isinstance(tokenizer, Fast):
        return tokenizer.numbers(text)
    return np.asarray(tokenizer.encode(text).tokens, np.int32)


def document(
    tokenizer: TextTokenizer, text: str, *, first: bool = True, last: bool = True
) -> Tokens:
    """A text with the tokens that begin and end a document, where the tokenizer has such.

    Args:
        tokenizer: Cuts it.
        text: A document, or a part of one.
        first: Whether the document begins here.
        last: Whether it ends here.
    """
    before = [tokenizer.begin] if first and tokenizer.begin is not None else []
    after = [tokenizer.end] if last and tokenizer.end is not None else []
    ends = [np.asarray(each, np.int32) for each in (before, after)]
    return np.concatenate([ends[0], numbers(tokenizer, text), ends[1]])


def shortened(row: Tokens, length: int, tokenizer: TextTokenizer, long: str, place: str) -> Tokens:
    """A document of at most ``length`` tokens; of a longer one the end goes, its end token stays.

    Args:
        row: The tokens.
        length: How many may be left.
        tokenizer: What made them.
        long: One of `LONG`.
        place: What messages call the document.

    Raises:
        DataError: It has no token, or too many, and is not to be cut.
    """
    if not len(row):
        raise DataError(f"{place} has no token: tokenizer {tokenizer.name} drops it all.")
    if len(row) <= length:
        return row
    if long == "refuse":
        raise DataError(
            f"{place} has {len(row)} tokens, more than length {length}: give a greater "
            "length, or write long: cut."
        )
    end = 0 if tokenizer.end is None else 1
    return np.concatenate([row[: length - end], row[len(row) - end :]])


def told(tokenizer: TextTokenizer) -> dict[str, Any]:
    """What a report says of a tokenizer."""
    return {
        "name": tokenizer.name,
        "size": tokenizer.size,
        "fingerprint": tokenizer.fingerprint(),
    }


def _named(written: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(written, str):
        return written, {}
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, options),) = written.items()
        if options is None or isinstance(options, Mapping):
            return str(name), dict(options or {})
    raise DataError(
        f"tokenizer is {written!r}, expected a name such as 'bytes', or one name with its options "
        "such as {bpe: {size: 4096}} or {hf: {path: folder}}."
    )
