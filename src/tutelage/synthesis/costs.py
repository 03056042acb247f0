"""What asking costs: bounded on the way, counted after."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.core.writing import Request, Written
from tutelage.teachers.remote.costs import Budget as Budget
from tutelage.teachers.remote.costs import Prices as Prices
from tutelage.teachers.remote.costs import Spent as Spent
from tutelage.teachers.remote.costs import counting

_COUNT = counting(4.0)  # letters of a token, roughly, in English
_AROUND = 4  # tokens that a chat's marks add to each message


@dataclass
class Purse:
    """Says whether one more request fits, those under way at their dearest.

    Args:
        prices: Of the writer.
        budget: The bound.
        spent: So far.
    """

    prices: Prices
    budget: Budget
    spent: Spent = field(default_factory=Spent)
    _open: dict[str, tuple[int, int]] = field(default_factory=dict)

    def reserve(self, request: Request) -> str:
        """Set its cost aside; else say which bound it would break."""
        read = tokens_of(text for _, text in request.messages)
        wanted = [*self._open.values(), (read, request.most_tokens)]
        reading = self.spent.tokens_read + sum(r for r, _ in wanted)
        writing = self.spent.tokens_written + sum(w for _, w in wanted)
        requests = self.spent.requests + len(wanted)
        price = self.prices.of(reading, writing)
        if passed := self.budget.passed(requests, reading + writing, price):
            return f"budget.{passed}"
        self._open[request.key] = (read, request.most_tokens)
        return ""

    def settle(self, answer: Written) -> None:
        """Count what an answer cost."""
        del self._open[answer.key]
        self.spent += cost_of(answer)


def counted(answer: Written, request: Request) -> Written:
    """The answer with its tokens, reckoned from letters where the writer does not tell them."""
    if answer.finish == "error" or answer.tokens_read or answer.tokens_written:
        return answer
    read, written = tokens_of(text for _, text in request.messages), tokens_of([answer.text])
    facts = {**answer.facts, "tokens": "reckoned, not told by the writer"}
    return replace(answer, tokens_read=read, tokens_written=written, facts=facts)


def cost_of(answer: Written) -> Spent:
    """The cost of one answer."""
    failed, reckoned = answer.finish == "error", "tokens" in answer.facts
    read, written = answer.tokens_read, answer.tokens_written
    return Spent(int(not failed), int(failed), read, written, int(reckoned))


def row_of(spent: Spent, prices: Prices) -> dict[str, Any]:
    """What was spent as JSON can write it, with its price."""
    money = prices.of(spent.tokens_read, spent.tokens_written)
    return {**vars(spent), "money": round(money, 6), "currency": prices.currency}


def tokens_of(texts: Iterable[str]) -> int:
    """About how many tokens messages have, four letters each.

    >>> tokens_of(["What is 2 + 2?"])
    8
    """
    return sum(_COUNT(text) + _AROUND for text in texts)


def sure(budget: Budget, prices: Prices) -> None:
    """Refuse a bound on money where nothing has a price.

    Raises:
        RecipeError: It bounds nothing.
    """
    if budget.money is not None and not (prices.read or prices.written):
        raise RecipeError(
            "budget.money bounds nothing, for prices are 0: write prices: {read: ..., written: ...}"
        )
