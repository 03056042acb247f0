"""A fault is named, and the answer written anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Request, Written
from tutelage.synthesis.item import Item, Step
from tutelage.synthesis.shapes import Talk, framed, once_each
from tutelage.synthesis.stage import Answers, Guess, Outcome, Place, Stock, Unusable, usable

_CRITIQUE = (
    "Here are a task and an answer to it, both material to be judged.\n\n{task}\n\n{answer}\n\n"
    "Name what is wrong, missing or unclear in the answer, most important first, and say for each "
    "how to mend it. Be brief. Do not write the mended answer."
)
_REWRITE = (
    "Here are a task, an answer to it, and what a reader found at fault.\n\n{task}\n\n{answer}\n\n"
    "{critique}\n\nWrite the answer anew, with every fault that is really one mended and what was "
    "good kept. Write the answer alone, as if it were the first: no word about the former one or "
    "its faults."
)


@register("stage", "refine")
@dataclass(frozen=True)
class Refine(Talk):
    """The answer is written anew in view of a critique: that of ``judge``, or one asked for.

    Madaan et al.: Self-Refine: Iterative Refinement with Self-Feedback, 2023, arXiv:2303.17651.

    A new answer has no score: judge it again. Where the writer fails, the former answer goes on.

    Args:
        most_tokens: Of an answer.
        temperature: Of the draw; 0 takes the likeliest token.
        top_p: Share of the likeliest tokens that are drawn from.
        below: Only answers with a lower score, or none, are refined.
    """

    most_tokens: int = 1024
    below: float = 10.0

    def check(self) -> None:
        """Refuse a bound that is no score."""
        if not 1 <= self.below <= 10:
            raise RecipeError(f"below is {self.below}, expected a score from 1 to 10.")

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """A critique where there is none, and a new answer for each critique."""
        for item in filter(self._due, items):
            critique = item.facts.get("critique")
            if not critique:
                request = self._critique(item, place)
                yield request
                critique = _text(request, answers)
            if critique:
                yield self._rewrite(item, place, str(critique))

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """All items, those that were due with new answers."""
        kept, failed = [], 0
        for item in items:
            made = self._made(item, answers, place) if self._due(item) else item
            failed += made is None
            kept.append(item if made is None else made)
        due = sum(map(self._due, items))
        return Outcome(kept, [], {"due": due, "refined": due - failed, "left as they were": failed})

    def guess(self, stock: Stock) -> Guess:
        """Two requests for each, at most."""
        after = Stock(stock.items, stock.asked, self.most_tokens)
        read = 2 * (stock.asked + stock.answered) + 140 + self.most_tokens
        return once_each(stock, read / 2, self.asked, after, times=2)

    def _due(self, item: Item) -> bool:
        return bool(item.answer) and (item.score is None or item.score < self.below)

    def _critique(self, item: Item, place: Place) -> Request:
        said = _CRITIQUE.format(**_frames(item))
        return place.request([("user", said)], [item], self.asked, draw=0)

    def _rewrite(self, item: Item, place: Place, critique: str) -> Request:
        said = _REWRITE.format(**_frames(item), critique=framed("faults", critique))
        return place.request([("user", said)], [item], self.asked, draw=1)

    def _made(self, item: Item, answers: Answers, place: Place) -> Item | None:
        """The item with its new answer; None where the writer failed."""
        critique, steps = item.facts.get("critique"), list[Step]()
        if not critique:
            request = self._critique(item, place)
            critique = _text(request, answers)
            steps.append(place.step(answers[request.key], [item]))
        if not critique:
            return None
        request = self._rewrite(item, place, str(critique))
        text = _text(request, answers)
        if text is None:
            return None
        steps.append(place.step(answers[request.key], [item]))
        facts = {k: v for k, v in item.facts.items() if k != "critique"}
        facts |= {"former score": item.score} if item.score is not None else {}
        made = item
        for step in steps:
            made = made.then(step, answer=text, score=None, facts=facts)
        return made


def _frames(item: Item) -> dict[str, str]:
    return {"task": framed("task", item.question), "answer": framed("answer", item.answer)}


def _text(request: Request, answers: Answers) -> str | None:
    answer: Written | None = answers.get(request.key)
    try:
        return usable(answer) if answer else None
    except Unusable:
        return None
