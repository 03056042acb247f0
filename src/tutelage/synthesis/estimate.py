"""What a run will cost at most, before anybody is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.synthesis.costs import Prices, tokens_of
from tutelage.synthesis.item import Item
from tutelage.synthesis.stage import Stage, Stock


def estimate(stages: Mapping[str, Stage], seeds: Sequence[Item], prices: Prices) -> dict[str, Any]:
    """Requests, tokens and money, of each stage and of all.

    Every answer is taken to be as long as it may get, and nothing to be dropped. Tokens of texts
    are reckoned at four letters each: of other languages than English, and of code, there are more.

    Example:
        >>> from tutelage.synthesis.answer import Answer
        >>> found = estimate({"answer": Answer(most_tokens=100)}, [Item("2 + 2?")], Prices(1, 1))
        >>> found["requests"], found["tokens_written"]
        (1, 100)
    """
    count = len(seeds)
    asked = sum(tokens_of([item.question]) for item in seeds) / max(count, 1)
    told = [tokens_of([f"{item.reasoning or ''}{item.answer}"]) for item in seeds if item.answer]
    stock = Stock(count, asked, sum(told) / len(told) if told else 0.0)
    rows: list[dict[str, Any]] = []
    for name, stage in stages.items():
        guess = stage.guess(stock)
        rows.append(
            {
                "stage": name,
                "items": stock.items,
                "requests": guess.requests,
                "tokens_read": guess.tokens_read,
                "tokens_written": guess.tokens_written,
                "money": round(prices.of(guess.tokens_read, guess.tokens_written), 6),
            }
        )
        stock = guess.after
    keys = ("requests", "tokens_read", "tokens_written", "money")
    total = {key: sum(row[key] for row in rows) for key in keys}
    return {**total, "currency": prices.currency, "stages": rows}
