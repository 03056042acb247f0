"""What is counted while serving: plain numbers, made into Prometheus' form when asked for."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
DIFFERENCES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
_WINDOW = 60  # seconds
_KEPT = 4096  # latencies, of which the window's quantiles are taken


class Tally:
    """A histogram: counts below each edge, and their sum.

    Example:
        >>> tally = Tally((1.0, 2.0))
        >>> tally.add([0.5, 2.0, 9.0])
        >>> tally.buckets()
        [('1.0', 1.0), ('2.0', 2.0), ('+Inf', 3.0)]
    """

    def __init__(self, edges: Sequence[float]):
        self._edges, self.sum = np.asarray(edges, float), 0.0
        self._counts = np.zeros(len(edges) + 1, dtype=np.int64)

    def add(self, values: Iterable[float]) -> None:
        """Count some values."""
        found = np.fromiter(values, float)
        np.add.at(self._counts, np.searchsorted(self._edges, found), 1)
        self.sum += float(found.sum())

    def one(self, value: float) -> None:
        """Count one value."""
        self._counts[self._edges.searchsorted(value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper edges, and how many values are not above."""
        edges = [*map(str, self._edges.tolist()), "+Inf"]
        return list(zip(edges, map(float, self._counts.cumsum()), strict=True))


class Window:
    """Latencies of the last minute, as far as the newest 4,096 reach, and answers a second."""

    def __init__(self) -> None:
        self._times, self._values = np.full(_KEPT, -np.inf), np.zeros(_KEPT)
        self._next = 0
        self._began = time.monotonic()
        self._seconds: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count an answer."""
        now = time.monotonic()
        place = self._next % _KEPT
        self._times[place], self._values[place] = now, seconds
        self._next += 1
        self._seconds[int(now)] += 1
        if len(self._seconds) > 2 * _WINDOW:
            self._forget(now)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Seconds; 0 where nothing was answered."""
        recent = self._values[self._times > time.monotonic() - _WINDOW]
        return [float(np.quantile(recent, share)) if len(recent) else 0.0 for share in shares]

    def rate(self) -> float:
        """Answers a second."""
        now = time.monotonic()
        self._forget(now)
        return sum(self._seconds.values()) / max(1.0, min(_WINDOW, now - self._began))

    def _forget(self, now: float) -> None:
        for second in [each for each in self._seconds if each < now - _WINDOW]:
            del self._seconds[second]


class Metrics:
    """All counts of a server. Adding is cheap; nothing is rendered before somebody asks."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.latency, self.window = Tally(SECONDS), Window()
        self.batches, self.confidence = Tally(SIZES), Tally(SHARES)
        self.classes: Counter[str] = Counter()
        self.swaps = self.refusals = 0
        self.shadow = {"compared": 0, "disagreed": 0, "dropped": 0, "failed": 0}
        self.difference, self.largest = Tally(DIFFERENCES), 0.0
        self.traffic_dropped = 0

    def answered(self, seconds: float) -> None:
        """Count a prediction that was sent."""
        self.latency.one(seconds)
        self.window.add(seconds)

    def predicted(self, labels: Sequence[str], shares: np.ndarray) -> None:
        """Count what was predicted.

        Args:
            labels: Of the classes.
            shares: Probabilities ``(n, C)``.
        """
        for row in shares.argmax(axis=-1).tolist():
            self.classes[labels[row]] += 1
        self.confidence.add(shares.max(axis=-1))

    def compared(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Count what a candidate said of the same examples, logits ``(n, C)`` both."""
        self.shadow["compared"] += len(ours)
        self.shadow["disagreed"] += int((ours.argmax(-1) != theirs.argmax(-1)).sum())
        gaps = np.abs(ours.astype(float) - theirs).max(axis=-1)
        self.difference.add(gaps)
        self.largest = max(self.largest, float(gaps.max()))
