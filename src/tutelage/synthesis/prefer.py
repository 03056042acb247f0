"""Several answers to one instruction, the best and the worst of them kept as a pair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Request
from tutelage.synthesis.answer import question
from tutelage.synthesis.item import Dropped, Item, Step
from tutelage.synthesis.judge import judged_read, judgement, scored
from tutelage.synthesis.shapes import Talk
from tutelage.synthesis.stage import (
    Answers,
    Asked,
    Guess,
    Outcome,
    Place,
    Stock,
    Unusable,
    at_least,
    usable,
)


@register("stage", "prefer")
@dataclass(frozen=True)
class Prefer(Talk):
    """Pairs for preference learning: ``count`` answers are drawn and judged, best against worst.

    Cui et al.: UltraFeedback: Boosting Language Models with Scaled AI Feedback, 2023,
    arXiv:2310.01377.

    The best answer becomes the item's, with its score; the worst goes to the fact ``rejected``.
    Pairs whose scores differ by less than ``margin`` say nothing sure and are dropped. Of equal
    scores the one drawn first counts. The paper takes answers of several models; here one model
    draws several.

    Args:
        most_tokens: Of an answer.
        temperature: Of the draw; above 0, or all answers are the same.
        top_p: Share of the likeliest tokens that are drawn from.
        count: Answers to each instruction.
        margin: Least difference of the two scores.
        judge_tokens: Of a judgement.
    """

    temperature: float = 1.0
    count: int = 4
    margin: float = 1.0
    judge_tokens: int = 256

    def check(self) -> None:
        """Refuse numbers that make no pairs."""
        at_least("count", self.count, 2)
        at_least("judge_tokens", self.judge_tokens, 1)
        if not 0 < self.margin <= 9:
            raise RecipeError(f"margin is {self.margin}, expected more than 0, at most 9.")
        if self.temperature == 0:
            raise RecipeError("temperature is 0: all answers would be the same; write 1, say.")

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """All answers, and a judgement of each that came."""
        for item in items:
            asked = [self._answer(item, place, draw) for draw in range(self.count)]
            yield from asked
            if all(request.key in answers for request in asked):
                for draw, _ in self._different(item, answers, place):
                    yield self._judge(item, answers, place, draw)

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """One pair for each item whose answers differ enough."""
        made = [self._pair(item, answers, place) for item in items]
        kept = [each for each in made if isinstance(each, Item)]
        return Outcome(kept, [each for each in made if isinstance(each, Dropped)])

    def guess(self, stock: Stock) -> Guess:
        """``count`` answers and as many judgements for each."""
        turns = stock.items * self.count
        after = Stock(stock.items, stock.asked, self.most_tokens)
        read = turns * (stock.asked + judged_read(after))
        return Guess(after, 2 * turns, round(read), turns * (self.most_tokens + self.judge_tokens))

    def _answer(self, item: Item, place: Place, draw: int) -> Request:
        return question(item, place, self.asked, "", draw)

    def _judge(self, item: Item, answers: Answers, place: Place, draw: int) -> Request:
        text = _text(self._answer(item, place, draw), answers) or ""
        # The item's own id stays among the parents: the words judged are in the request itself.
        made = replace(item, answer=text)
        return judgement(made, place, Asked(self.judge_tokens), draw=draw)

    def _different(self, item: Item, answers: Answers, place: Place) -> list[tuple[int, str]]:
        """Usable answers with the number of their draw; of equal ones the first."""
        found: dict[str, int] = {}
        for draw in range(self.count):
            text = _text(self._answer(item, place, draw), answers)
            if text is not None:
                found.setdefault(text, draw)
        return [(draw, text) for text, draw in found.items()]

    def _pair(self, item: Item, answers: Answers, place: Place) -> Item | Dropped:
        found: list[tuple[float, str, tuple[Step, ...]]] = []
        for draw, text in self._different(item, answers, place):
            written = answers[self._answer(item, place, draw).key]
            judged = answers[self._judge(item, answers, place, draw).key]
            try:
                score, _ = scored(usable(judged))
            except Unusable:
                continue
            found.append((score, text, (place.step(written, [item]), place.step(judged, [item]))))
        if len(found) < 2:
            why = f"{len(found)} of {self.count} are readable and differ"
            return place.drop(item, "too few answers", why)
        best, worst = max(found, key=_score), min(found, key=_score)
        if best[0] - worst[0] < self.margin:
            return place.drop(item, "too close", f"{best[0]:g} against {worst[0]:g}")
        facts = item.with_facts(rejected=worst[1], rejected_score=worst[0])
        steps = (*item.steps, *best[2], *worst[2])
        return replace(item, answer=best[1], score=best[0], facts=facts, steps=steps)


def _score(found: tuple[float, str, tuple[Step, ...]]) -> float:
    return found[0]


def _text(request: Request, answers: Answers) -> str | None:
    """A usable answer that came; None where there is none."""
    try:
        return usable(answers[request.key]) if request.key in answers else None
    except Unusable:
        return None
