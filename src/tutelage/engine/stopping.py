"""Ctrl-C (and a polite kill) ends a run between two steps, not in the middle of one."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Stop:
    """While entered, the first SIGINT or SIGTERM only sets `requested`; a second one is real."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._before[number])
