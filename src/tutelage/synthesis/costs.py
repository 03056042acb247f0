"""What asking costs: bounded on the way, counted after."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.core.writing import Request, Written
from tutelage.synthesis.stage import at_least
from tutelage.teachers.remote.costs import Prices as Prices
from tutelage.teachers.remote.costs import counting

_COUNT = counting(4.0)  # letters of a token, roughly, in English
_AROUND = 4  # tokens that a chat's marks add to each message


@dataclass(frozen=True)
class Budget:
    """A bound on a whole run, earlier parts of it included; None for no bound.

    Attributes:
        requests: Answered at most.
        tokens: Read and written at most.
        money: At most, by the stated prices.

    Raises:
        RecipeError: A bound is below 0.
    """

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound is not None:
                at_least(f"budget.{name}", bound, 0)


@dataclass(frozen=True)
class Spent:
    """What was asked and answered.

    Attributes:
        requests: That were answered.
        failed: That were not.
        tokens_read: By the writer's own count, where it tells one.
        tokens_written: Likewise.
        reckoned: Answers whose tokens the writer did not count: reckoned from letters.
    """

    requests: int = 0
    failed: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    reckoned: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(*(a + b for a, b in zip(self._counts(), other._counts(), strict=True)))

    def row(self, prices: Prices) -> dict[str, Any]:
        """As JSON can write it, with its price."""
        money = prices.of(self.tokens_read, self.tokens_written)
        return {**vars(self), "money": round(money, 6), "currency": prices.currency}

    def _counts(self) -> list[int]:
        return list(vars(self).values())


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
    spent: Spent = Spent()
    _open: dict[str, tuple[int, int]] = field(default_factory=dict)

    def reserve(self, request: Request) -> str:
        """Set its cost aside; else say which bound it would break."""
        read = tokens_of(text for _, text in request.messages)
        wanted = [*self._open.values(), (read, request.most_tokens)]
        reading = self.spent.tokens_read + sum(r for r, _ in wanted)
        writing = self.spent.tokens_written + sum(w for _, w in wanted)
        costs = {
            "requests": self.spent.requests + len(wanted),
            "tokens": reading + writing,
            "money": self.prices.of(reading, writing),
        }
        for name, bound in vars(self.budget).items():
            if bound is not None and costs[name] > bound:
                return f"budget.{name} of {bound:g}"
        self._open[request.key] = (read, request.most_tokens)
        return ""

    def settle(self, answer: Written) -> None:
        """Count what an answer cost."""
        read, _ = self._open.pop(answer.key, (0, 0))
        self.spent += cost_of(answer, read)


def cost_of(answer: Written, read: int = 0) -> Spent:
    """The cost of one answer; ``read`` stands in for what the writer does not tell."""
    if answer.finish == "error":
        return Spent(failed=1)
    if answer.tokens_read or answer.tokens_written:
        return Spent(1, 0, answer.tokens_read, answer.tokens_written)
    return Spent(1, 0, read, tokens_of([answer.text]), reckoned=1)


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
