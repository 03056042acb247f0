"""No faster than is allowed: questions and tokens in a minute."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from tutelage.core.errors import RecipeError


@dataclass(frozen=True)
class Limits:
    """How much is asked at once, and in a minute.

    Attributes:
        lanes: Questions under way at once.
        requests_per_minute: None for as many as will go.
        tokens_per_minute: Read and written together, each question counted with the longest
            answer it allows, as servers count them. None for as many as will go.

    Raises:
        RecipeError: A number is out of range.
    """

    lanes: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.lanes <= 1024:
            raise RecipeError(f"lanes is {self.lanes}, expected 1 to 1024 questions at once.")
        for name in ("requests_per_minute", "tokens_per_minute"):
            given = getattr(self, name)
            if given is not None and not 0 < given < float("inf"):
                raise RecipeError(f"{name} is {given}, expected more than 0, or None.")


class Pace:
    """Gives each question its moment.

    Questions are spread evenly: after one that costs a share of a minute's allowance the next has
    to wait for that share of a minute. So no window of any minute holds more than is allowed plus
    one question, and there are no bursts that a server would turn down.

    Args:
        limits: What is allowed.
        clock: Seconds that only go forward.

    Example:
        >>> pace = Pace(Limits(requests_per_minute=60), clock=lambda: 100.0)
        >>> [pace.left(pace.book(10)) for _ in range(3)]
        [0.0, 1.0, 2.0]
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, Lock()
        self._each = 60.0 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        self._token = 60.0 / limits.tokens_per_minute if limits.tokens_per_minute else 0.0
        self._free = self._held = float("-inf")

    def book(self, tokens: int) -> float:
        """The moment at which a question of so many tokens may be sent."""
        with self._lock:
            due = max(self._clock(), self._free)
            self._free = due + max(self._each, tokens * self._token)
            return due

    def hold(self, seconds: float) -> None:
        """Nobody asks for so long: the server said so."""
        with self._lock:
            self._held = max(self._held, self._clock() + seconds)

    def left(self, due: float) -> float:
        """Seconds until a moment that was booked."""
        with self._lock:
            return max(0.0, max(due, self._held) - self._clock())
