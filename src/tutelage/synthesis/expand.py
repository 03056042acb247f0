"""New instructions from a few: a handful of examples is shown, and others are asked for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.registry import register
from tutelage.core.writing import Request
from tutelage.synthesis.item import Dropped, Item
from tutelage.synthesis.shapes import Talk, framed
from tutelage.synthesis.stage import (
    Answers,
    Guess,
    Outcome,
    Place,
    Stock,
    Unusable,
    at_least,
    drawn,
    usable,
)

_ASKED = (
    "Below are {shown} tasks that people gave to an assistant.\n\n{examples}\n\n"
    "Think of {each} other tasks for it. Each must differ from those above and from one another in "
    "topic, in what has to be done and in length; each must hold everything that is needed to do "
    "it, and need nothing but text. Write them as a list numbered from 1, one task a line, and "
    "nothing else."
)
_ENTRY = re.compile(r"^\s*(?:\d+\s*[.):]|[-*])\s+(.+?)\s*$")


@register("stage", "expand")
@dataclass(frozen=True)
class Expand(Talk):
    """New instructions: the writer is shown some that are there, drawn by the seed.

    Wang et al.: Self-Instruct: Aligning Language Models with Self-Generated Instructions, 2022,
    arXiv:2212.10560.

    The paper shows eight examples, six by people and two of the machine's own; here they are drawn
    from all items alike, so a second ``expand`` after the first draws from both. Near copies,
    which the paper finds by ROUGE-L, are the work of the stage ``deduplicate``.

    Args:
        most_tokens: Of an answer.
        temperature: Of the draw; 0 takes the likeliest token.
        top_p: Share of the likeliest tokens that are drawn from.
        count: New instructions wanted; fewer come where answers cannot be read.
        examples: Shown at once.
        each: New ones asked for at once.
        keep: Whether the items that it began with go on too.
    """

    temperature: float = 0.7
    count: int = 100
    examples: int = 8
    each: int = 8
    keep: bool = True

    def check(self) -> None:
        """Refuse counts below 1."""
        for name in ("count", "examples", "each"):
            at_least(name, getattr(self, name), 1)

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """As many as the count takes, where every one is answered in full."""
        return (request for request, _ in self._asked(items, place))

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """The new instructions, and after those the count no more."""
        kept = list(items) if self.keep else []
        dropped = [] if self.keep else [place.drop(item, "an example only") for item in items]
        made = 0
        for request, shown in self._asked(items, place):
            answer = answers[request.key]
            step = place.step(answer, shown)
            try:
                entries = entries_of(usable(answer))
            except Unusable as error:
                lost = Item(answer.text.strip() or "(no text)", steps=(step,))
                dropped.append(place.drop(lost, error.reason, error.why, request.key))
                continue
            for entry in entries:
                item = Item(entry, steps=(step,))
                if made == self.count:
                    dropped.append(_surplus(item, place, request))
                    continue
                kept.append(item)
                made += 1
        return Outcome(kept, dropped, {"wanted": self.count, "made": made})

    def guess(self, stock: Stock) -> Guess:
        """The count over ``each``."""
        if not stock.items:
            return Guess(stock)
        count = self._turns()
        shown = min(self.examples, stock.items)
        kept = stock.items if self.keep else 0
        per_new = self.most_tokens / self.each
        total = kept + self.count
        asked = (kept * stock.asked + self.count * per_new) / total
        read = count * (80 + shown * (stock.asked + 6))
        after = Stock(total, asked, stock.answered)
        return Guess(after, count, round(read), count * self.most_tokens)

    def _turns(self) -> int:
        return -(-self.count // self.each)

    def _asked(self, items: Sequence[Item], place: Place) -> Iterator[tuple[Request, list[Item]]]:
        for turn in range(self._turns() if items else 0):
            places = drawn(self.examples, len(items), place.seed, place.stage, "shown", turn)
            shown = [items[i] for i in places]
            text = "\n\n".join(framed(f"task {n}", s.question) for n, s in enumerate(shown, 1))
            said = _ASKED.format(shown=len(shown), examples=text, each=self.each)
            yield place.request([("user", said)], shown, self.asked, draw=turn), shown


def entries_of(text: str) -> list[str]:
    r"""The entries of a list, one a line; what is no entry is passed over.

    Raises:
        Unusable: There are none.

    Example:
        >>> entries_of("Sure:\n1. Name a prime.\n2) Spell 'tea'.")
        ['Name a prime.', "Spell 'tea'."]
    """
    found = [match[1] for match in map(_ENTRY.match, text.splitlines()) if match]
    if not found:
        raise Unusable("no list", "expected lines '1. ...'")
    return found


def _surplus(item: Item, place: Place, request: Request) -> Dropped:
    return place.drop(item, "more than the count", request=request.key)
