"""Somebody behind a server who writes text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from tutelage.core.errors import DataError
from tutelage.core.text import TextTokenizer
from tutelage.core.writing import Request, Written
from tutelage.teachers.remote.abreast import abreast
from tutelage.teachers.remote.client import Client, Weight
from tutelage.teachers.remote.costs import (
    Bill,
    Budget,
    Estimate,
    Prices,
    Spent,
    counting,
    estimate,
    tokens_of,
)
from tutelage.teachers.remote.journal import Journal, asked_of
from tutelage.teachers.remote.ledger import Ledger
from tutelage.teachers.remote.pace import Limits
from tutelage.teachers.remote.patience import Patience
from tutelage.teachers.remote.routes import Chat, Route, written_of
from tutelage.teachers.remote.server import Server


class OpenAIWriter:
    """Writes by asking an OpenAI-compatible server: a `tutelage.core.writing.Writer`.

    Questions go out on several lanes at once. What fails for the moment (a cut connection, 408,
    409, 429, 5xx) is asked again after a while; what fails for good (a wrong key, model or form)
    ends the whole in one clear line. A single question that cannot be answered says so in its
    answer, is not kept, and is asked again in the next run.

    With a journal every answer is kept as it comes. Whoever writes again with the same journal
    gets the kept answers from there, and only what is missing is sent. An answer belongs to a
    request if the key and all that was asked are the same: the model, the messages, the options
    and the route; the address may change.

    Args:
        server: Who is asked.
        route: ``Chat()``, or ``Plain()`` for texts.
        journal: File that answers are kept in; None keeps none.
        limits: How much at once and in a minute.
        patience: How often and after how long again.
        prices: For money.
        budget: A bound on the whole.
        count: How tokens of requests are reckoned before they are sent: a tokenizer, or letters
            for each token.

    Raises:
        DataError: The journal cannot be used, or a key comes twice.
        ServerError: Nobody answers, or nothing of this kind is answered.
        RecipeError: The key or the certificates are not there, or the key is not let in.

    Example:
        >>> writer = OpenAIWriter(Server("http://127.0.0.1:8000", "small"))
        >>> print(writer.estimate([Request("q1", (("user", "What is 2 + 2?"),))]))
        1 requests, 11 tokens to read and at most 256 to write: at most 0.00 USD
    """

    def __init__(
        self,
        server: Server,
        route: Route | None = None,
        *,
        journal: str | Path | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
        prices: Prices | None = None,
        budget: Budget | None = None,
        count: TextTokenizer | float = 4.0,
    ):
        self.server, self.route = server, route or Chat()
        self._count, self._how = counting(count), count
        self._ledger = Ledger(prices, budget)
        self._client = Client(server, limits or Limits(), patience or Patience(), self._ledger)
        self._path = None if journal is None else Path(journal)
        self._kept: Journal | None = None

    @property
    def name(self) -> str:
        """What messages and records call it."""
        return self.server.name

    @property
    def spent(self) -> Bill:
        """What was asked and paid since this writer was made."""
        return self._ledger.spent

    @property
    def journal(self) -> Journal | None:
        """Where answers are kept, opened now."""
        if self._kept is None and self._path is not None:
            self._kept, spent = Journal(self._path), self.spent
            # What this writer has kept there itself is in its own books already.
            before = {
                "requests": self._kept.kept - spent.requests,
                "tokens_read": self._kept.tokens_read - spent.tokens_read,
                "tokens_written": self._kept.tokens_written - spent.tokens_written,
            }
            self._ledger.carry(Spent(**{name: max(0, many) for name, many in before.items()}))
        return self._kept

    def estimate(self, requests: Iterable[Request]) -> Estimate:
        """What writing these will cost at most, less what the journal holds."""
        journal = self.journal

        def there(request: Request) -> bool:
            return (
                journal is not None
                and journal.find(request.key, self._asked(request)[1]) is not None
            )

        return estimate(requests, self._ledger.prices, self._how, there)

    def write(self, requests: Iterable[Request]) -> Iterator[Written]:
        """The answers, as they come: each request gets exactly one."""
        journal = self.journal
        try:
            yield from abreast(
                lambda request: self._one(request, journal),
                _told_apart(requests),
                self._client.limits.lanes,
                self._client.halt,
            )
        finally:
            self._client.go_on()

    def close(self) -> None:
        """Make sure of the journal, and let files and connections go."""
        self._client.close()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(self, request: Request) -> tuple[dict[str, Any], str]:
        """What is sent for a request, and its hash."""
        body = self.route.body(request, self.server.model)
        return body, asked_of({"path": self.route.path, "body": body})

    def _one(self, request: Request, journal: Journal | None) -> Written:
        body, asked = self._asked(request)
        if journal is not None and (kept := journal.find(request.key, asked)) is not None:
            self._ledger.kept()
            return kept
        weight = Weight(tokens_of(request, self._count), request.most_tokens)
        answered = self._client.ask(self.route.path, body, weight)
        written = written_of(self.route, request, answered, weight, self.name)
        if journal is not None and written.finish != "error":
            journal.keep(written, asked)
        return written


def _told_apart(requests: Iterable[Request]) -> Iterator[Request]:
    seen: set[str] = set()
    for request in requests:
        if request.key in seen:
            raise DataError(
                f"two requests have the key {request.key!r:.200}: an answer is kept by it, so give "
                "each a key of its own."
            )
        seen.add(request.key)
        yield request
