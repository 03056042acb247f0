"""What happens with an answer after it was sent: a candidate is asked too, traffic is recorded."""

import os
import queue
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from tutelage.deployment.serving.batching import Item
from tutelage.deployment.serving.metrics import Metrics
from tutelage.deployment.serving.model import ServedModel

_ROOM = 64  # answers; beyond it they are dropped and counted, never waited for


class Afterwards:
    """A thread of low priority behind a short queue.

    Args:
        metrics: Where it counts.
        candidate: Gives the version to compare with; None while there is none.
        share: Of answered requests that the candidate gets, 0 to 1.
        traffic: Makes a `TrafficLog` for a version; None records nothing.
    """

    def __init__(
        self,
        metrics: Metrics,
        candidate: Callable[[], ServedModel | None],
        share: float,
        traffic: Callable[[str], Any] | None,
    ):
        self._metrics, self._candidate, self._share = metrics, candidate, share
        self._traffic = traffic
        self._records: tuple[str, Any] | None = None
        self._queue: queue.Queue[tuple[Item, np.ndarray, bool] | None] = queue.Queue(_ROOM)
        self._thread = threading.Thread(target=self._run, name="afterwards", daemon=True)
        self._thread.start()

    def offer(self, item: Item, logits: np.ndarray) -> None:
        """Pass on an answer that was sent; never waits."""
        asked = self._share > 0 and random.random() < self._share and self._candidate() is not None
        if not asked and self._traffic is None:
            return
        try:
            self._queue.put_nowait((item, logits, asked))
        except queue.Full:
            self._metrics.shadow["dropped"] += item.count if asked else 0
            self._metrics.traffic_dropped += 0 if self._traffic is None else item.count

    def close(self, seconds: float = 5.0) -> None:
        """Do what is in the queue, and end."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
        self._thread.join(seconds)

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while (entry := self._queue.get()) is not None:
            item, logits, asked = entry
            theirs = self._compare(item, logits) if asked else None
            if self._traffic is not None:
                self._record(item, logits, theirs, self._traffic)
        if self._records is not None:
            self._records[1].close()

    def _compare(self, item: Item, logits: np.ndarray) -> np.ndarray | None:
        candidate = self._candidate()
        if candidate is None:
            return None
        try:
            theirs = _in_order(candidate.answer(item.inputs), candidate.labels, item.model.labels)
        except Exception:  # a candidate may do what it likes: nobody is told but the metrics
            self._metrics.shadow["failed"] += item.count
            return None
        self._metrics.compared(logits, theirs)
        return theirs

    def _record(
        self,
        item: Item,
        logits: np.ndarray,
        shadow: np.ndarray | None,
        traffic: Callable[[str], Any],
    ) -> None:
        try:
            if self._records is None or self._records[0] != item.model.version:
                if self._records is not None:
                    self._records[1].close()
                    self._records = None
                self._records = (item.model.version, traffic(item.model.version))
            self._records[1].append(item.inputs, logits, shadow=shadow)
        except Exception:  # recording is no reason to fail
            self._metrics.traffic_dropped += item.count


def _in_order(logits: np.ndarray, theirs: tuple[str, ...], ours: tuple[str, ...]) -> np.ndarray:
    return logits if theirs == ours else logits[:, [theirs.index(label) for label in ours]]
