"""Who is let in: as many examples as can be answered in time; the others are told at once."""

import math
import time

_PRESSED = 0.005  # seconds after a refusal during which there are too many
_RARE = 0.005  # of the answered may have waited longer than allowed: far fewer than one in 100


class Gate:
    """Admission by estimated wait, in whole examples.

    What an example costs is measured while answers come back, so it holds parsing, the model, and
    the turning down of others. An example is let in while those before it are done within the
    allowed wait: never fewer than two (one runs, one waits), never more than the queue holds. Where
    no wait is allowed, one at a time: a model that runs in the event loop gains nothing by two.

    A burst into a server that was idle is let in too, as many as fit into half of the idle time,
    at most eight times the limit or sixteen. Under a load that does not end there is no idle time,
    and so few are let in beyond the limit that the 99th percentile does not notice.

    Whoever asked while the event loop worked on an answer has waited for that already. So, while
    requests are turned down anyway, those of the turn after an answer are turned down too, and the
    next one is let in out of a turn that was short. After `leave`, `turned` is to be called in the
    next turn of the loop, and `rested` in the one after it.

    Args:
        most: Examples within the server at most.
        allowed: Seconds that an example may wait for others.
        each: First guess of an example's cost, seconds.

    Example:
        >>> gate = Gate(most=100, allowed=0.010, each=0.001)
        >>> gate.limit
        11
        >>> for number in range(200):  # an example turns out to take 5 ms
        ...     gate.done(1, began=number * 0.005, now=(number + 1) * 0.005)
        >>> gate.limit
        3
    """

    def __init__(self, most: int, allowed: float, each: float):
        self.most, self.allowed, self.each = most, allowed, each
        self.waiting = 0  # examples within the server
        self.arriving = 0  # of requests whose bytes are here, and whose handler did not start
        self.just = 0  # left in this turn of the event loop: those after them had to wait
        self.resting = 0  # left in this turn or the one before
        self._refused = -math.inf  # when the last one was turned down
        self.shed = 0  # requests turned down
        self.unparsed = 0  # of these, without a handler
        self.limit = 1
        self._last = 0.0
        self._idle: float | None = None  # since when nobody is inside
        self._judge()
        self._spare = self._burst  # how many more may come in a burst

    @property
    def closed(self) -> bool:
        """Whether the next one is turned down."""
        inside = self.waiting + self.arriving
        if self.resting and time.perf_counter() - self._refused < _PRESSED:
            inside += self.resting
        if inside < self.limit:
            return False
        return inside >= self.most or self._spare - self.arriving < 1

    def enter(self) -> bool:
        """Let a request in, or count that it was turned down."""
        if self.closed:
            self.refuse()
            return False
        if self.waiting == 0 and self._idle is not None:
            idle = time.perf_counter() - max(self._idle, self._refused + _PRESSED)
            self._gain(0.5 * max(idle, 0.0) / max(self.each, 1e-6))
        if self.waiting + self.resting >= self.limit:
            self._spare -= 1
        self.waiting += 1
        return True

    def refuse(self) -> None:
        """Count that a request was turned down: while that happens, nobody is idle."""
        self.shed += 1
        self._refused = time.perf_counter()

    def leave(self, count: int) -> None:
        """Some examples are answered, or given up."""
        self.waiting -= count
        self.just += count
        self.resting += count
        if self.waiting == 0:
            self._idle = time.perf_counter()

    def turned(self, count: int) -> None:
        """The event loop's turn in which some left is over."""
        self.just -= count

    def rested(self, count: int) -> None:
        """The turn after that one is over too."""
        self.resting -= count

    def done(self, count: int, *, began: float, now: float) -> None:
        """Learn from a batch.

        Args:
            count: Its examples.
            began: When its oldest request arrived, in seconds of a clock that never goes back.
            now: When its answers were there.
        """
        took = (now - max(began, self._last)) / max(count, 1)
        self._last = now
        # A pause of the machine is no cost of an example: one batch moves little.
        self.each += 0.1 * (min(took, 2 * self.each) - self.each)
        self._judge()
        self._gain(_RARE * count)

    def retry_after(self) -> int:
        """Whole seconds after which it is worth to ask again."""
        return max(1, math.ceil(self.waiting * self.each))

    @property
    def _burst(self) -> float:
        return max(16.0, 8.0 * self.limit)

    def _gain(self, examples: float) -> None:
        self._spare = min(self._burst, self._spare + examples)

    def _judge(self) -> None:
        fit = int(self.allowed / max(self.each, 1e-6) + 1e-9) + 1
        self.limit = min(self.most, max(2 if self.allowed else 1, fit))
