"""Whether and when a server is asked again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Literal

from tutelage.core.errors import RecipeError
from tutelage.teachers.remote.wire import Reply

Verdict = Literal["fine", "again", "alone", "stop"]

_AGAIN = {0, 408, 409, 425, 429}
_ALONE = {413, 422}
_TOO_LONG = (
    "context length",
    "context window",
    "context size",
    "context_length_exceeded",
    "content_filter",
    "content_policy",
)
_SPENT = ("insufficient_quota", "billing_hard_limit")


@dataclass(frozen=True)
class Patience:
    """How often and after how long a question is asked again.

    After the n-th failure it waits ``min(most, first * 2**(n-1))`` seconds, times a number drawn
    from [0.5, 1), so that many who failed at once do not come back at once; at least as long as
    the server says in ``Retry-After``.

    Attributes:
        tries: How often a question is asked at most.
        first: Seconds before the second try, at most.
        most: Seconds before any, unless the server asks for more.
        longest: The longest ``Retry-After`` that is waited for, in seconds.
        failures: After so many questions in a row without an answer the whole is given up.

    Raises:
        RecipeError: A number is out of range.

    Example:
        >>> [Patience().wait(n, None, 1.0) for n in (1, 2, 3, 9)]
        [1.0, 2.0, 4.0, 60.0]
        >>> Patience().wait(1, 20.0, 1.0)
        20.0
    """

    tries: int = 6
    first: float = 1.0
    most: float = 60.0
    longest: float = 300.0
    failures: int = 10

    def __post_init__(self) -> None:
        if self.tries < 1 or self.failures < 1:
            raise RecipeError(
                f"tries, failures are {self.tries}, {self.failures}, expected at least 1."
            )
        for name in ("first", "most", "longest"):
            if not (isfinite(given := getattr(self, name)) and given >= 0):
                raise RecipeError(f"{name} is {given}, expected seconds, at least 0.")

    def wait(self, failed: int, asked: float | None, share: float) -> float:
        """Seconds to wait after the ``failed``-th failure.

        Args:
            failed: Counted from 1.
            asked: What the server asks for.
            share: Drawn from [0.5, 1).
        """
        own = min(self.most, self.first * 2.0 ** min(failed - 1, 60)) * share
        return own if asked is None else max(own, asked)


def verdict_on(reply: Reply) -> Verdict:
    """What follows from a reply.

    ``fine``; ``again``: cut connections, 408, 409, 425, 429 and 5xx; ``alone``: this question
    cannot be answered (too long, or refused), others can; ``stop``: nothing can, as for a wrong
    key (401, 403), a wrong model or address (404), a question of the wrong form (400), or a
    quota that is used up (a 429 which no waiting helps).

    Example:
        >>> verdict_on(Reply(503)), verdict_on(Reply(401)), verdict_on(Reply(200, b"{}"))
        ('again', 'stop', 'fine')
    """
    status = reply.status
    if status == 200:
        # A proxy's page, or half an answer of a server that closed: there is none to read.
        return "fine" if reply.data() is not None else "again"
    said = reply.body[:4096].decode("utf-8", "replace").lower()
    if status == 429 and any(word in said for word in _SPENT):
        return "stop"
    if status in _AGAIN or (500 <= status < 600 and status != 501):
        return "stop" if reply.hopeless else "again"
    if status in _ALONE or (status == 400 and any(word in said for word in _TOO_LONG)):
        return "alone"
    return "stop"


def asked_for(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server asks to be left alone: ``Retry-After``, a number or a date.

    >>> asked_for({"retry-after": "7"}), asked_for({"retry-after-ms": "250"}), asked_for({})
    (7.0, 0.25, None)
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        return seconds if isfinite(seconds) and seconds >= 0 else None
    try:
        until = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def told_by(reply: Reply) -> str:
    """What the server says is wrong, at most 300 letters of it.

    >>> told_by(Reply(404, b'{"error": {"message": "no such model"}}'))
    'no such model'
    """
    if reply.trouble:
        return reply.trouble
    data: Any = reply.data()
    for key in ("error", "message", "detail"):
        if isinstance(data, dict) and data.get(key):
            data = data[key]
    text = data if isinstance(data, str) else reply.body[:300].decode("utf-8", "replace")
    if location := reply.headers.get("location"):
        text = f"it sends on to {location}; name that address, if it is the right one"
    text = " ".join(text.split())
    return text[:300] if text else "it says nothing more"
