"""What bytes of text the tokens of a library's tokenizer stand for."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def contents(spec: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    r"""The bytes of every token, by number; those of special tokens too.

    Byte-level vocabularies spell each byte as a character of its own, others mark word starts
    (``▁``), continuations (``##``) or single bytes (``<0x0A>``).

    Args:
        spec: The tokenizer's JSON file, read.
        vocabulary: Token texts and their numbers, added tokens included.

    Example:
        >>> contents({"decoder": {"type": "WordPiece", "prefix": "##"}}, {"##ing": 0, "play": 1})
        {0: b'ing', 1: b'play'}
        >>> contents({"decoder": {"type": "ByteLevel"}}, {"Ġplay": 0, "Ã": 1})
        {0: b' play', 1: b'\xc3'}
    """
    added = {token["id"] for token in spec.get("added_tokens") or ()}
    spell = _speller(spec)
    return {
        number: text.encode() if number in added else spell(text)
        for text, number in vocabulary.items()
    }


def is_byte_level(spec: Mapping[str, Any]) -> bool:
    """Whether tokens are spelt byte by byte."""
    return any(part.get("type") == "ByteLevel" for part in _parts(spec.get("decoder")))


def _speller(spec: Mapping[str, Any]) -> Any:
    if is_byte_level(spec):
        return _of_byte_letters
    parts = list(_parts(spec.get("decoder")))
    kinds = {part.get("type") for part in parts}
    prefix = next((p.get("prefix", "##") for p in parts if p.get("type") == "WordPiece"), "")
    suffix = next((p.get("suffix", "</w>") for p in parts if p.get("type") == "BPEDecoder"), "")
    marks = {p["replacement"] for p in parts if p.get("type") == "Metaspace"}
    marks |= {_pattern(p) for p in parts if p.get("type") == "Replace" and p.get("content") == " "}

    def spell(text: str) -> bytes:
        if "ByteFallback" in kinds and (byte := _FALLBACK.fullmatch(text)):
            return bytes([int(byte[1], 16)])
        text = text.removeprefix(prefix).removesuffix(suffix)
        for mark in marks:
            text = text.replace(mark, " ")
        return text.encode()

    return spell


def _pattern(part: Mapping[str, Any]) -> str:
    return str(part.get("pattern", {}).get("String", "▁"))


def _parts(step: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(step, Mapping):
        yield step
        for key in ("decoders", "pretokenizers"):
            for part in step.get(key) or ():
                yield from _parts(part)


def _of_byte_letters(text: str) -> bytes:
    letters = _byte_letters()
    if all(letter in letters for letter in text):
        return bytes(letters[letter] for letter in text)
    return text.encode()


@cache
def _byte_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Printable bytes are themselves; the others, in their order, are the letters from U+0100 on.
    """
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}
