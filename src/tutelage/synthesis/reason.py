"""Steps of thought, and the answer at their end."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.registry import register
from tutelage.core.writing import Request, Written
from tutelage.synthesis.item import Item
from tutelage.synthesis.shapes import Talk, framed, once_each
from tutelage.synthesis.stage import (
    Answers,
    Guess,
    Outcome,
    Place,
    Stock,
    Unusable,
    one_by_one,
    usable,
)
from tutelage.synthesis.words import words_of

_ASKED = (
    "{task}\n\nWork this out step by step, and write the steps down. Then end with one line that "
    "begins with 'Final answer:' and holds the answer alone."
)
_FINAL = re.compile(
    r"^[\s*_#>]*final\s+answer\s*[*_]*\s*:\s*[*_]*\s*", re.IGNORECASE | re.MULTILINE
)


@register("stage", "reason")
@dataclass(frozen=True)
class Reason(Talk):
    """A chain of thought for each instruction, and the answer that it ends with.

    Hsieh et al.: Distilling Step-by-Step! Outperforming Larger Language Models with Less Training
    Data and Smaller Model Sizes, 2023, arXiv:2305.02301.

    The steps go to ``reasoning`` and the answer to ``answer``, so that a student can learn them as
    two tasks, as in the paper, or one after the other. The paper shows examples of reasoning in
    front; here the writer is only told what form to keep.

    Args:
        most_tokens: Of an answer.
        temperature: Of the draw; 0 takes the likeliest token.
        top_p: Share of the likeliest tokens that are drawn from.
        agree: Whether items that have an answer are dropped where the new one has other words.
    """

    most_tokens: int = 1024
    agree: bool = False

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """One for each item."""
        return (self._ask(item, place) for item in items)

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """Items with reasoning and answer."""

        def read(item: Item, answer: Written) -> Item:
            steps, final = thought(usable(answer))
            if self.agree and item.answer and words_of(final) != words_of(item.answer):
                raise Unusable("another answer", f"{final[:60]!r}, expected {item.answer[:60]!r}")
            kept = item.answer if self.agree and item.answer else final
            return item.then(place.step(answer, [item]), reasoning=steps, answer=kept)

        return one_by_one(items, answers, place, lambda item: self._ask(item, place), read)

    def guess(self, stock: Stock) -> Guess:
        """One request for each."""
        after = Stock(stock.items, stock.asked, self.most_tokens)
        return once_each(stock, stock.asked + 45, self.asked, after)

    def _ask(self, item: Item, place: Place) -> Request:
        said = _ASKED.format(task=framed("task", item.question))
        return place.request([("user", said)], [item], self.asked)


def thought(text: str) -> tuple[str, str]:
    r"""Steps and final answer of a text; of several final answers the last counts.

    Raises:
        Unusable: There is no final answer, or nothing before it.

    Example:
        >>> thought("2 and 2 are 4.\n**Final answer:** 4")
        ('2 and 2 are 4.', '4')
    """
    found = list(_FINAL.finditer(text))
    if not found:
        raise Unusable("no final answer", "expected a line 'Final answer: ...'")
    steps, final = text[: found[-1].start()].strip(), text[found[-1].end() :].strip(" \n*_")
    if not final:
        raise Unusable("no final answer", "nothing stands behind 'Final answer:'")
    if not steps:
        raise Unusable("no steps", "nothing stands before 'Final answer:'")
    return steps, final
