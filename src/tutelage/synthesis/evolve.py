"""Instructions become harder, or others of their kind are found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.errors import RecipeError, suggest
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.core.writing import Request
from tutelage.synthesis.item import Dropped, Item, Plain
from tutelage.synthesis.shapes import Talk, framed
from tutelage.synthesis.stage import (
    Answers,
    Guess,
    Outcome,
    Place,
    Stock,
    Unusable,
    at_least,
    usable,
)
from tutelage.synthesis.words import words_of

WAYS = {
    "constrain": "add one condition or requirement that an answer must meet",
    "deepen": "ask for more depth and breadth of knowledge about the same matter",
    "specify": "put particular things in the place of general ones",
    "reason": "make it need several steps of thought where it needs few",
    "complicate": "give it a piece of data to work on: a table, a code snippet, a formula, a text",
    "broaden": "ask instead for something rarer of the same field, about as long and as hard",
}
"""How an instruction may change: five ways deeper, one broader."""

_ASKED = (
    "Here is a task for an assistant.\n\n{task}\n\n"
    "Write another task made from it: {way}. A person must be able to understand it and answer it "
    "in text; lengthen it by no more than twenty words or so. Write the new task alone: no "
    "heading, no comment, no answer."
)


@register("stage", "evolve")
@dataclass(frozen=True)
class Evolve(Talk):
    """Instructions are made deeper or broader, in ways drawn by the seed, round after round.

    Xu et al.: WizardLM: Empowering Large Language Models to Follow Complex Instructions, 2023,
    arXiv:2304.12244.

    As in the paper, one that did not change, or speaks of the request instead of the matter, is
    eliminated; its forebear stays. New ones have no answer, so ``answer`` belongs after this stage.

    Args:
        most_tokens: Of an answer.
        temperature: Of the draw; 0 takes the likeliest token.
        top_p: Share of the likeliest tokens that are drawn from.
        rounds: How often; each begins with what the one before made.
        ways: Drawn from; None for all: ``constrain``, ``deepen``, ``specify``, ``reason``,
            ``complicate`` (deeper) and ``broaden``.
        keep: Whether forebears go on too.
    """

    temperature: float = 0.7
    rounds: int = 1
    ways: list[str] | None = None
    keep: bool = True

    def check(self) -> None:
        """Refuse ways that are not known."""
        at_least("rounds", self.rounds, 1)
        for way in self.ways or ():
            if way not in WAYS:
                raise RecipeError(f"ways has {way!r}. {suggest(way, WAYS)}")
        if self.ways == []:
            raise RecipeError("ways is an empty list: name some, or leave it out for all.")

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """A round for all items whose round before was answered."""
        now = list(items)
        for number in range(self.rounds):
            following = []
            for item in now:
                request, _ = self._ask(item, place, number)
                yield request
                if request.key in answers:
                    made = self._made(item, answers, place, number)
                    following += [made] if isinstance(made, Item) else []
            now = following

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """Forebears, and what became of them in each round."""
        kept = list(items) if self.keep else []
        dropped: list[Dropped] = []
        if not self.keep:
            dropped = [place.drop(item, "a forebear only") for item in items]
        now = list(items)
        for number in range(self.rounds):
            made = [self._made(item, answers, place, number) for item in now]
            dropped += [each for each in made if isinstance(each, Dropped)]
            now = [each for each in made if isinstance(each, Item)]
            last = number == self.rounds - 1
            kept += now if self.keep or last else []
            if not (self.keep or last):
                dropped += [place.drop(item, "a forebear only") for item in now]
        return Outcome(kept, dropped)

    def guess(self, stock: Stock) -> Guess:
        """One request for each item in each round."""
        read, asked = 0.0, stock.asked
        for _ in range(self.rounds):
            read += stock.items * (90 + asked)
            asked = float(self.most_tokens)
        count = stock.items * self.rounds
        kept = stock.items + count if self.keep else stock.items
        after = Stock(kept, max(stock.asked, self.most_tokens), stock.answered)
        return Guess(after, count, round(read), count * self.most_tokens)

    def _ask(self, item: Item, place: Place, number: int) -> tuple[Request, str]:
        ways = self.ways or list(WAYS)
        way = ways[derive(place.seed, place.stage, "way", item.id, number) % len(ways)]
        said = _ASKED.format(task=framed("task", item.question), way=WAYS[way])
        return place.request([("user", said)], [item], self.asked, draw=number), way

    def _made(self, item: Item, answers: Answers, place: Place, number: int) -> Item | Dropped:
        request, way = self._ask(item, place, number)
        step = place.step(answers[request.key], [item])
        try:
            text = usable(answers[request.key])
            _changed(text, item)
        except Unusable as error:
            words = answers[request.key].text.strip() or "(no text)"
            lost = Item(words, steps=(*item.steps, step))
            return place.drop(lost, error.reason, error.why, request.key)
        facts: dict[str, Plain] = {"way": way, "round": number + 1}
        return Item(text, facts=facts, steps=(*item.steps, step))


def _changed(text: str, item: Item) -> None:
    """Refuse what did not evolve."""
    if words_of(text) == words_of(item.question):
        raise Unusable("did not change")
    if "[task]" in text or "[/task]" in text or "new task:" in text.casefold()[:60]:
        raise Unusable("speaks of the request", text[:60])
