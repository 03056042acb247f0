"""A teacher answers: what the student will learn to say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.registry import register
from tutelage.core.writing import Request, Written
from tutelage.synthesis.item import Item
from tutelage.synthesis.shapes import Talk, once_each
from tutelage.synthesis.stage import (
    Answers,
    Asked,
    Guess,
    Outcome,
    Place,
    Stock,
    one_by_one,
    usable,
)


@register("stage", "answer")
@dataclass(frozen=True)
class Answer(Talk):
    """The teacher's answer to each instruction, word for word: distillation on sequences.

    Kim and Rush: Sequence-Level Knowledge Distillation, 2016, arXiv:1606.07947.

    Items that have an answer keep it, unless ``again`` is true. Answers that were cut off at
    ``most_tokens`` are dropped, for a student would learn to stop in the middle.

    Args:
        most_tokens: Of an answer.
        temperature: Of the draw; 0 takes the likeliest token.
        top_p: Share of the likeliest tokens that are drawn from.
        system: What stands before each instruction; empty for nothing.
        again: Whether items that have an answer get a new one.
    """

    most_tokens: int = 1024
    system: str = ""
    again: bool = False

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """One for each item without an answer."""
        for item in items:
            request = self._ask(item, place)
            if request is not None:
                yield request

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """The same items with answers."""

        def read(item: Item, answer: Written) -> Item:
            return item.then(place.step(answer, [item]), answer=usable(answer))

        return one_by_one(items, answers, place, lambda item: self._ask(item, place), read)

    def guess(self, stock: Stock) -> Guess:
        """One request for each."""
        after = Stock(stock.items, stock.asked, self.most_tokens)
        return once_each(stock, stock.asked, self.asked, after)

    def _ask(self, item: Item, place: Place) -> Request | None:
        if item.answer and not self.again:
            return None
        return question(item, place, self.asked, self.system)


def question(item: Item, place: Place, asked: Asked, system: str, draw: int = 0) -> Request:
    """An item as it is put to the teacher."""
    before = [("system", system)] if system else []
    return place.request([*before, ("user", item.question)], [item], asked, draw=draw)
