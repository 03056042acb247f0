"""Where tokens lie in the bytes of a text."""

from collections.abc import Sequence
from itertools import accumulate

Span = tuple[int, int]


def byte_spans(text: str, contents: Sequence[bytes], characters: Sequence[Span]) -> list[Span]:
    r"""The bytes of ``text`` that each token covers, going forward, none of them twice.

    Where the tokens' own bytes are the text, they say it all; this holds for byte-level
    vocabularies, whose reported characters overlap wherever a character is more than one token,
    and leave out spaces. Else the characters that the library reports are counted in bytes, and
    tokens that share a character part it by their lengths.

    Args:
        text: What was encoded.
        contents: The bytes that each token stands for.
        characters: The characters that the library says each token is of, ``[start, stop)``.

    Example:
        >>> byte_spans("€", [b"\xe2", b"\x82\xac"], [(0, 1), (0, 1)])
        [(0, 1), (1, 3)]
        >>> byte_spans("É a", [b"e", b"a"], [(0, 1), (2, 3)])  # a tokenizer that drops and folds
        [(0, 2), (3, 4)]
    """
    raw, joined = text.encode(), b"".join(contents)
    for extra in (0, 1):  # a space that the tokenizer puts in front is not of the text
        if joined == b" " * extra + raw:
            stops = [max(0, stop - extra) for stop in accumulate(map(len, contents))]
            return list(zip([0, *stops], stops, strict=False))
    places = list(accumulate((len(character.encode()) for character in text), initial=0))
    return _parted([(places[a], places[b]) for a, b in characters], contents)


def _parted(spans: Sequence[Span], contents: Sequence[bytes]) -> list[Span]:
    found: list[Span] = []
    reached = 0
    for index, (start, stop) in enumerate(spans):
        start = max(start, reached)
        stop = max(stop, start)
        if index + 1 < len(spans) and spans[index + 1][0] < stop:
            stop = min(stop, start + len(contents[index]))
        found.append((start, stop))
        reached = stop
    return found
