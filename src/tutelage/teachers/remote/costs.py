"""What asking costs: estimated before, counted after, bounded on the way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from tutelage.core.errors import RecipeError
from tutelage.core.text import TextTokenizer
from tutelage.core.writing import Request

_AROUND, _BEFORE = 4, 3
"""Tokens that a chat's marks add to each message, and before the answer."""

Counting = Callable[[str], int]
"""How many tokens a text has, or about how many."""


@dataclass(frozen=True)
class Prices:
    """What a server charges.

    Attributes:
        read: For a million tokens of requests.
        written: For a million tokens of answers.
        currency: What in.

    Raises:
        RecipeError: A price is below 0.

    Example:
        >>> Prices(read=0.5, written=1.5).of(2_000_000, 1_000_000)
        2.5
    """

    read: float = 0.0
    written: float = 0.0
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not (0 <= self.read < float("inf") and 0 <= self.written < float("inf")):
            raise RecipeError(
                f"prices are {self.read} and {self.written}, expected at least 0 for a million "
                "tokens."
            )

    def of(self, read: int, written: int) -> float:
        """The price of so many tokens."""
        return (read * self.read + written * self.written) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What asking will cost at most, if texts have as many tokens as was reckoned.

    Attributes:
        requests: To be sent.
        kept: Answered before, and taken from the journal.
        tokens_read: Of what will be sent.
        tokens_written: Of the answers, each as long as it may get.
        money: For both.
        currency: What in.
    """

    requests: int
    kept: int
    tokens_read: int
    tokens_written: int
    money: float
    currency: str

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests, {self.tokens_read:,} tokens to read and at most "
            f"{self.tokens_written:,} to write: at most {self.money:.2f} {self.currency}"
        )


@dataclass(frozen=True)
class Spent:
    """What was asked and answered.

    Attributes:
        requests: That were answered.
        failed: That were not.
        tokens_read: By the other side's own count, where it tells one.
        tokens_written: Likewise.
        reckoned: Answers whose tokens were not told: they were reckoned.

    Example:
        >>> Spent(1, 0, 20, 5) + Spent(0, 1)
        Spent(requests=1, failed=1, tokens_read=20, tokens_written=5, reckoned=0)
    """

    requests: int = 0
    failed: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    reckoned: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        names = [each.name for each in fields(Spent)]
        return Spent(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True)
class Bill(Spent):
    """What was asked of a server, and paid.

    Attributes:
        kept: Answers that were there before, and cost nothing now.
        tries: How often the server was asked, failures included.
        unsure: Tokens of tries that were cut off or timed out, at most; the server may have
            charged for them.
        money: For the tokens read and written, by the stated prices.
        money_unsure: For the unsure ones, at most.
        currency: What in.
        seconds: In which at least one question was under way.
    """

    kept: int = 0
    tries: int = 0
    unsure: int = 0
    money: float = 0.0
    money_unsure: float = 0.0
    currency: str = "USD"
    seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """A bound on the whole: what was kept before counts, and so do tries that may have cost.

    A question is sent only if its cost at most still fits, beside those under way at theirs.
    Where it does not, the run stops cleanly and says so, and what is left is asked in a later run
    with a larger budget.

    Attributes:
        requests: Answered at most; None for no bound.
        tokens: Read and written at most; None for no bound.
        money: At most, by the stated prices; None for no bound.

    Raises:
        RecipeError: A bound is below 0.
    """

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound is not None and not bound >= 0:
                raise RecipeError(f"the budget's {name} is {bound}, expected at least 0, or None.")

    def passed(self, requests: int, tokens: int, money: float) -> str:
        """The bound that so much passes; empty where it passes none.

        >>> Budget(tokens=100).passed(3, 101, 0.0)
        'tokens of 100'
        """
        found = {"requests": requests, "tokens": tokens, "money": money}
        for name, bound in vars(self).items():
            if bound is not None and found[name] > bound * (1 + 1e-12):
                return f"{name} of {bound:,.12g}"
        return ""


def counting(how: TextTokenizer | float) -> Counting:
    """A way to count tokens: by a tokenizer, or by letters for each token (English: about 4).

    Letters are counted as bytes of UTF-8, so that texts in other scripts are not reckoned short.

    Raises:
        RecipeError: The number is not above 0.

    Example:
        >>> counting(4.0)("a dozen words"), counting(4.0)("")
        (4, 0)
    """
    if isinstance(how, (int, float)):
        if not 0 < how < float("inf"):
            raise RecipeError(f"letters for each token are {how}, expected more than 0.")
        each = float(how)
        return lambda text: int(-(-len(text.encode("utf-8", "replace")) // each))
    return lambda text: len(how.encode(text))


def tokens_of(request: Request, count: Counting) -> int:
    """Tokens of a request, with the marks that a chat adds to its messages.

    >>> tokens_of(Request("q", (("user", "twelve marks"),)), counting(4.0))
    10
    """
    return _BEFORE + sum(count(text) + _AROUND for _, text in request.messages)


def estimate(
    requests: Iterable[Request],
    prices: Prices | None = None,
    how: TextTokenizer | float = 4.0,
    kept: Callable[[Request], bool] = lambda request: False,
) -> Estimate:
    """What asking all of ``requests`` will cost at most.

    Args:
        requests: To be asked.
        prices: Stated by the server's owner; None for nothing.
        how: A tokenizer, or letters for each token.
        kept: Whether an answer is there already.

    Example:
        >>> print(estimate([Request("q", (("user", "Hi."),))], Prices(1.0, 2.0)))
        1 requests, 8 tokens to read and at most 256 to write: at most 0.00 USD
    """
    prices, count = prices or Prices(), counting(how)
    asked = there = read = written = 0
    for request in requests:
        if kept(request):
            there += 1
            continue
        asked += 1
        read += tokens_of(request, count)
        written += request.most_tokens
    money = prices.of(read, written)
    return Estimate(asked, there, read, written, money, prices.currency)
