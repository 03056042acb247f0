"""Ctrl-C (and a polite kill) ends a run between two steps, not in the middle of one."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Stop:
    """While entered, the first SIGINT or SIGTERM only sets `requested`; a second one is real.

    Outside the main thread signals cannot be caught, and none arrives.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # None: a handler that was not set from Python, which signal cannot set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
