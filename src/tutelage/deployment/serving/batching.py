"""Requests of a moment become one batch, and each gets its own rows back."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tutelage.deployment.serving.model import ServedModel
from tutelage.deployment.serving.refused import Refused

SHORT = 0.0005
"""Seconds for which the event loop may stand still."""


@dataclass(eq=False)
class Item:
    """A request that waits for its logits.

    Attributes:
        model: The version that its inputs were held against; the same one answers.
        inputs: By name, ``(n, *shape)``.
        arrived: Seconds of `time.perf_counter`.
        answer: Becomes the logits ``(n, C)``, or the error that this request alone gets.
    """

    model: ServedModel
    inputs: Mapping[str, np.ndarray]
    arrived: float
    answer: "asyncio.Future[np.ndarray]"
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(next(iter(self.inputs.values())))


class Batcher:
    """Fuses what waits, runs it in a thread, hands the rows back. Lives in one event loop.

    A free model takes what is there. It waits for more, at most ``wait`` seconds after the oldest
    arrived, only while other requests are being read (``coming``); while it is busy, requests
    gather by themselves. A batch that takes no longer than half a millisecond, as those before it
    did, is run in the event loop itself: on a machine whose cores are all busy, handing it to a
    thread and back costs several milliseconds.

    Args:
        most: Examples of one run of the model.
        wait: Seconds.
        told: Called in the event loop after each batch: examples, arrival of the oldest, now.
    """

    def __init__(self, most: int, wait: float, told: Callable[[int, float, float], None]):
        self._most, self._wait, self._told = most, wait, told
        self._queue: deque[Item] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loop = asyncio.get_running_loop()
        self._busy = self._planned = False
        self._each = math.inf  # seconds of an example, of late
        self.coming = 0  # requests that were let in, and whose inputs are not here yet

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, item: Item) -> None:
        """Put a request in line; its ``answer`` is set later."""
        self._queue.append(item)
        if len(self._queue) == 1 and not self.coming and not self._busy and self._short(item.count):
            self._start()
        else:
            self._plan()

    def close(self) -> None:
        """End the thread, after the batch that it works on."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _plan(self) -> None:
        """Begin when all that came in this turn of the loop is in line."""
        if self._queue and not self._busy and not self._planned:
            self._planned = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._planned = False
        if self._busy or not self._queue:
            return
        left = self._queue[0].arrived + self._wait - time.perf_counter()
        if self.coming > 0 and left > 0 and sum(item.count for item in self._queue) < self._most:
            self._planned = True
            self._loop.call_later(min(left, 0.001), self._start)
            return
        batch = self._take()
        if self._short(sum(item.count for item in batch)):
            self._finish(batch, *self._run(batch))
            return
        self._busy = True
        self._pool.submit(self._work, batch)

    def _short(self, count: int) -> bool:
        return self._each * count <= SHORT

    def _take(self) -> list[Item]:
        batch = [self._queue.popleft()]
        count = batch[0].count
        while self._queue and self._queue[0].model is batch[0].model:
            count += self._queue[0].count
            if count > self._most:
                break
            batch.append(self._queue.popleft())
        return batch

    def _run(self, batch: Sequence[Item]) -> "tuple[list[np.ndarray | Refused], float]":
        began = time.perf_counter()
        answers = answered(batch, self._most)
        return answers, time.perf_counter() - began

    def _work(self, batch: Sequence[Item]) -> None:
        found = self._run(batch)
        try:
            self._loop.call_soon_threadsafe(self._finish, batch, *found)
        except RuntimeError:  # the loop was closed: nobody waits any more
            return

    def _finish(
        self, batch: Sequence[Item], answers: "Sequence[np.ndarray | Refused]", took: float
    ) -> None:
        self._busy = False
        self._plan()
        each = took / sum(item.count for item in batch)
        # One that took long by chance moves little; a model that became slower is soon known.
        self._each = each if math.isinf(self._each) else 0.8 * self._each + 0.2 * each
        count, oldest = sum(item.count for item in batch), min(item.arrived for item in batch)
        self._told(count, oldest, time.perf_counter())
        for item, answer in zip(batch, answers, strict=True):
            if item.answer.done():  # its client left
                continue
            if isinstance(answer, Refused):
                item.answer.set_exception(answer)
            else:
                item.answer.set_result(answer)


def answered(batch: Sequence[Item], most: int) -> list[np.ndarray | Refused]:
    """Logits of each request of a batch, or why it gets none; one never spoils another.

    Args:
        batch: Requests of one model.
        most: Examples of one run.
    """
    try:
        together = {
            name: np.concatenate([item.inputs[name] for item in batch]) if len(batch) > 1 else first
            for name, first in batch[0].inputs.items()
        }
        total = sum(item.count for item in batch)
        runs = [
            batch[0].model.answer({k: v[start : start + most] for k, v in together.items()})
            for start in range(0, total, most)
        ]
        logits = runs[0] if len(runs) == 1 else np.concatenate(runs)
    except Exception:  # ONNX Runtime has a class of its own for every kind
        if len(batch) > 1:
            return [answered([item], most)[0] for item in batch]
        return [Refused(422, "the model cannot answer these inputs: is a value out of bounds?")]
    ends = np.cumsum([item.count for item in batch])
    return [_finite(logits[end - item.count : end]) for item, end in zip(batch, ends, strict=True)]


def _finite(logits: np.ndarray) -> np.ndarray | Refused:
    if np.isfinite(logits).all():
        return logits
    return Refused(422, "the model answers these inputs with NaN or infinite numbers.")
