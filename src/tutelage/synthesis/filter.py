"""Items that are of no use by their looks alone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Request
from tutelage.synthesis.item import Item
from tutelage.synthesis.stage import Answers, Guess, Outcome, Place, Stock, Unusable, at_least
from tutelage.synthesis.words import in_a_row, words_of

REFUSALS = (
    "as an ai",
    "as a language model",
    "i am not able to",
    "i am unable to",
    "i can't assist",
    "i can't help with",
    "i cannot assist",
    "i cannot help with",
    "i'm not able to",
    "i'm sorry, but i can",
    "i'm unable to",
)
"""How answers begin that give none, in English."""

_BEGINNING = 200  # letters that are searched for a refusal
_RUN = re.compile(r"(\S)\1{19,}")


@register("stage", "filter")
@dataclass(frozen=True)
class Filter:
    """Drops by length, repetition and refusal, each with its reason; nobody is asked.

    Rae et al.: Scaling Language Models: Methods, Analysis and Insights from Training Gopher, 2021,
    arXiv:2112.11446.

    Its appendix removes documents by length and by the share of repeated n-grams; the bounds here
    are for answers and our own. Lengths and repetition are of words in any script; refusals are
    phrases of English unless others are given.

    Args:
        shortest: Words of an answer at least.
        longest: Words of an answer at most.
        question: Words of a question at most.
        repeated: Share of an answer's 4-grams that are repetitions, at most.
        refusals: Phrases near the beginning of an answer; None for those built in.
        unanswered: Whether items without an answer go on.
    """

    shortest: int = 1
    longest: int = 4096
    question: int = 2048
    repeated: float = 0.3
    refusals: list[str] | None = None
    unanswered: bool = False

    def __post_init__(self) -> None:
        at_least("shortest", self.shortest, 0)
        at_least("longest", self.longest, self.shortest)
        at_least("question", self.question, 1)
        if not 0 <= self.repeated <= 1:
            raise RecipeError(f"repeated is {self.repeated}, expected a share from 0 to 1.")

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """None."""
        return iter(())

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """Those against which nothing speaks."""
        kept, dropped = [], []
        for item in items:
            try:
                self._look(item)
                kept.append(item)
            except Unusable as error:
                dropped.append(place.drop(item, error.reason, error.why))
        return Outcome(kept, dropped)

    def guess(self, stock: Stock) -> Guess:
        """Nothing is asked; nothing is known of how many stay."""
        return Guess(stock)

    def _look(self, item: Item) -> None:
        asked = len(words_of(item.question))
        if asked > self.question:
            raise Unusable("a long question", f"{asked} words, expected at most {self.question}")
        if not item.answer:
            if self.unanswered:
                return
            raise Unusable("no answer")
        words = words_of(item.answer)
        # An answer of signs alone ("+", "{}") counts as one word.
        count = len(words) or 1
        if count < self.shortest:
            raise Unusable("a short answer", f"{count} words, expected at least {self.shortest}")
        if count > self.longest:
            raise Unusable("a long answer", f"{count} words, expected at most {self.longest}")
        share = repetition(words)
        if share > self.repeated:
            raise Unusable("repetition", f"{share:.2f} of its 4-grams, at most {self.repeated:g}")
        run = _RUN.search(item.answer)
        if run and run[1].isalnum():
            raise Unusable("repetition", f"{run[0][:20]!r}")
        self._refused(item.answer)

    def _refused(self, answer: str) -> None:
        beginning = answer[:_BEGINNING].casefold().replace("’", "'")
        for phrase in REFUSALS if self.refusals is None else self.refusals:
            if phrase.casefold() in beginning:
                raise Unusable("a refusal", repr(phrase))


def repetition(words: Sequence[str]) -> float:
    """Share of 4-grams that were there before.

    >>> repetition("a b c d a b c d".split())
    0.2
    >>> repetition(["a"])
    0.0
    """
    grams = list(in_a_row(words, 4))
    return (len(grams) - len(set(grams))) / len(grams) if grams else 0.0
