"""Items that hold what the evaluation asks are found, and dropped."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Request
from tutelage.data.text.reading import files_of, json_rows, read_text
from tutelage.synthesis.item import Item
from tutelage.synthesis.stage import Answers, Guess, Outcome, Place, Stock
from tutelage.synthesis.words import in_a_row, words_of


@register("stage", "decontaminate")
@dataclass(frozen=True)
class Decontaminate:
    """Items that share ``n`` words in a row with an evaluation file are dropped, and counted.

    Brown et al.: Language Models are Few-Shot Learners, 2020, arXiv:2005.14165.

    As in its appendix C: words without case and punctuation, 13 in a row, at least 8. There the
    length follows the data set (8 to 13); here it is ``n``, and an example of 8 to ``n`` - 1 words
    is looked for as a whole. Shorter ones are found only where an instruction, input or answer
    is equal to them; the report says how many those are.

    Args:
        against: Evaluation files: ``.jsonl`` (every text in a line counts by itself) and ``.txt``
            (every paragraph), or folders of them.
        n: Words in a row, 8 to 13.
    """

    against: list[str]
    n: int = 13

    def __post_init__(self) -> None:
        if not self.against:
            raise RecipeError("against is an empty list: name the evaluation files.")
        if not 8 <= self.n <= 13:
            raise RecipeError(f"n is {self.n}, expected 8 to 13 words in a row.")
        self._files()  # told before anything is asked and paid, and not after

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """None."""
        return iter(())

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """Items that hold nothing of any file."""
        index = _Index(self.n)
        for path in self._files():
            index.add(path)
        kept, dropped = [], []
        for item in items:
            found = index.find(item)
            if found is None:
                kept.append(item)
            else:
                dropped.append(place.drop(item, "holds an evaluation example", found))
        return Outcome(kept, dropped, {"n": self.n, "files": index.report()})

    def _files(self) -> list[Path]:
        return list(files_of(self.against, _WHAT))

    def guess(self, stock: Stock) -> Guess:
        """Nothing is asked; nothing is known of how many stay."""
        return Guess(stock)


_LEAST = 8
_WHAT = "decontaminate against"


@dataclass
class _File:
    path: str
    sum: str
    examples: int = 0
    short: int = 0
    items: int = 0
    hit: set[int] = field(default_factory=set)


class _Index:
    """Which example of which file holds some words in a row."""

    def __init__(self, n: int):
        self._n = n
        self._files: list[_File] = []
        self._grams: dict[int, dict[tuple[str, ...], tuple[int, int]]] = defaultdict(dict)
        self._whole: dict[tuple[str, ...], tuple[int, int]] = {}

    def add(self, path: Path) -> None:
        number = len(self._files)
        file = _File(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
        self._files.append(file)
        for line, texts in _examples(path):
            file.examples += 1
            # Single words, names of fields' values and numbers, are no questions.
            told = [words for words in map(words_of, texts) if len(words) > 1]
            file.short += all(len(words) < _LEAST for words in told)
            for words in told:
                where = (number, line)
                if len(words) < _LEAST:
                    self._whole.setdefault(tuple(words), where)
                    continue
                size = min(self._n, len(words))
                for gram in in_a_row(words, size):
                    self._grams[size].setdefault(gram, where)

    def find(self, item: Item) -> str | None:
        """What an item holds, in words; None where it holds nothing."""
        said = (item.instruction, item.input, item.question, item.answer, item.reasoning)
        found: dict[tuple[int, int], str] = {}
        for text in {str(each or ""): None for each in (*said, item.facts.get("rejected"))}:
            words = words_of(text)
            if tuple(words) in self._whole:
                found.setdefault(self._whole[tuple(words)], " ".join(words))
            for size, grams in sorted(self._grams.items()):
                for gram in in_a_row(words, size):
                    if gram in grams:
                        found.setdefault(grams[gram], " ".join(gram))
        for number in {number for number, _ in found}:
            self._files[number].items += 1
        for number, line in found:
            self._files[number].hit.add(line)
        if not found:
            return None
        (number, line), words_found = min(found.items())
        return f"line {line} of {self._files[number].path}: {words_found!r}"

    def report(self) -> list[dict[str, Any]]:
        return [
            {
                "file": file.path,
                "sha256": file.sum,
                "examples": file.examples,
                "too short for rows of words": file.short,
                "items that hold some": file.items,
                "examples that were held": len(file.hit),
            }
            for file in self._files
        ]


def _examples(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Examples of a file by their line: all texts of each."""
    if path.suffix == ".jsonl":
        for row in json_rows(path, _WHAT):
            yield row.line, _texts(row.content)
        return
    line = 1
    for paragraph in read_text(path, _WHAT).split("\n\n"):
        if paragraph.strip():
            yield line, [paragraph]
        line += paragraph.count("\n") + 2


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    inner = content.values() if isinstance(content, dict) else content
    if not isinstance(content, dict | list):
        return []
    return [text for each in inner for text in _texts(each)]
