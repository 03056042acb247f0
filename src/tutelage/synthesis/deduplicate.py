"""Of items that are the same, or nearly, one goes on."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Request
from tutelage.synthesis.item import Item
from tutelage.synthesis.minhash import MinHash, jaccard, shingles
from tutelage.synthesis.stage import Answers, Guess, Outcome, Place, Stock, at_least
from tutelage.synthesis.words import words_of


@register("stage", "deduplicate")
@dataclass(frozen=True)
class Deduplicate:
    """Equal and nearly equal items are dropped: exact words first, then MinHash over word n-grams.

    Lee et al.: Deduplicating Training Data Makes Language Models Better, 2021, arXiv:2107.06499.

    MinHash only proposes: two items are near copies if the Jaccard similarity of their n-grams,
    computed exactly, is at least ``threshold``. With 32 bands of 4 rows a pair of similarity 0.7 is
    proposed with probability 0.9998, one of 0.5 with 0.87. Each item is compared with those that
    stay, so a chain of small changes does not fall as a whole.

    Args:
        threshold: Similarity from which on an item is a copy; 1 leaves the exact search alone.
        n: Words of an n-gram.
        of: What is compared: the ``question`` (instruction and input), or ``all``, answer included.
        prefer: Which of them stays: the ``first``, or the one with the ``best`` score.
    """

    threshold: float = 0.7
    n: int = 3
    of: Literal["question", "all"] = "question"
    prefer: Literal["first", "best"] = "first"

    def __post_init__(self) -> None:
        at_least("n", self.n, 1)
        if not 0 < self.threshold <= 1:
            raise RecipeError(f"threshold is {self.threshold}, expected above 0, at most 1.")

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """None."""
        return iter(())

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """Those that stay, in their order."""
        copies = self._copies(items, place.seed)
        kept = [item for number, item in enumerate(items) if number not in copies]
        dropped = []
        for number, (of, similarity) in sorted(copies.items()):
            reason = "an exact copy" if similarity is None else "a near copy"
            told = "" if similarity is None else f", similarity {similarity:.2f}"
            dropped.append(place.drop(items[number], reason, f"of {items[of].id}{told}"))
        exact = sum(each.reason == "an exact copy" for each in dropped)
        return Outcome(kept, dropped, {"exact": exact, "near": len(dropped) - exact})

    def guess(self, stock: Stock) -> Guess:
        """Nothing is asked; nothing is known of how many stay."""
        return Guess(stock)

    def _copies(self, items: Sequence[Item], seed: int) -> dict[int, tuple[int, float | None]]:
        """By number of a copy: of which it is one, and how similar; None where it is exact."""
        hashing = MinHash(seed=seed)
        exact: dict[tuple[str, ...], int] = {}
        met: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
        grams: dict[int, frozenset[tuple[str, ...]]] = {}
        copies: dict[int, tuple[int, float | None]] = {}
        for number in self._order(items):
            text = self._text(items[number])
            # A text of signs alone has no words: its signs stand for them.
            same = tuple(words_of(text)) or (text.strip(),)
            if same in exact:
                copies[number] = (exact[same], None)
                continue
            if self.threshold < 1 and words_of(text):
                grams[number] = shingles(text, self.n)
                buckets = hashing.buckets(hashing.signature(grams[number]))
                near = sorted({other for bucket in buckets for other in met[bucket]})
                found = [(jaccard(grams[number], grams[other]), -other) for other in near]
                if found and max(found)[0] >= self.threshold:
                    copies[number] = (-max(found)[1], max(found)[0])
                    continue
                for bucket in buckets:
                    met[bucket].append(number)
            exact[same] = number
        return copies

    def _order(self, items: Sequence[Item]) -> list[int]:
        if self.prefer == "first":
            return list(range(len(items)))
        return sorted(range(len(items)), key=lambda i: -(items[i].score or 0.0))

    def _text(self, item: Item) -> str:
        return item.question if self.of == "question" else f"{item.question}\n\n{item.answer}"
