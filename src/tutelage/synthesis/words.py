"""Words of a text in any script, and what they make in a row."""

import re
from collections.abc import Iterator, Sequence

# Scripts that are written without spaces: each character counts as a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")


def words_of(text: str) -> list[str]:
    """Words without case and punctuation; of Chinese, Japanese, Thai ... every character.

    >>> words_of("It's 3 o'clock, HERE.")
    ['it', 's', '3', 'o', 'clock', 'here']
    >>> words_of("你好 world")
    ['你', '好', 'world']
    """
    return _WORD.findall(text.casefold())


def in_a_row(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All n neighbouring words; none where there are fewer.

    >>> list(in_a_row(["a", "b", "c"], 2))
    [('a', 'b'), ('b', 'c')]
    """
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
