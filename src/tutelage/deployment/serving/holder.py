"""The version that answers, and how another takes over while requests go on."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tutelage.deployment.serving.log import log
from tutelage.deployment.serving.model import ServedModel

Resolve = Callable[[], tuple[str, Path]]
"""Gives the digest (64 hexadecimal digits) and the place of the version that should answer."""

_LONGEST = 60.0  # seconds between two tries of a version that was refused


@dataclass
class _Failed:
    digest: str = ""
    again: float = 0.0
    pause: float = 1.0
    told: str = ""


class Holder:
    """Keeps one version ready, and looks each second whether another is wanted.

    A new version is checked, loaded and warmed up aside; then one assignment lets it answer from
    the next request on. What was asked before is answered by the old one. A version that cannot
    be loaded is refused, logged once, and tried again later: perhaps it is still being copied.

    Args:
        resolve: Which version is wanted; may raise.
        key: What packages must be signed with.
        threads: Of ONNX Runtime.
        role: ``model`` or ``shadow``, for the log.
        fits: Raises where a version must not be taken.
        told: Called with True after a swap, with False after a refusal.

    Attributes:
        model: The version that answers; None before `load`.
        seconds: Of its fastest run of one example, when it was warmed up.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        key: Path | None = None,
        threads: int = 1,
        role: str = "model",
        fits: Callable[[ServedModel], None] = lambda new: None,
        told: Callable[[bool], None] = lambda swapped: None,
    ):
        self._resolve, self._key, self._threads = resolve, key, threads
        self._role, self._fits, self._told = role, fits, told
        self.model: ServedModel | None = None
        self.seconds = 0.0
        self._failed = _Failed()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self) -> ServedModel:
        """Load the wanted version; what goes wrong is raised."""
        _, place = self._resolve()
        self.model, self.seconds = self._ready(place)
        return self.model

    def watch(self, every: float = 1.0) -> None:
        """Look for other versions from now on, in a thread."""
        self._thread = threading.Thread(
            target=self._watch, args=(every,), name=f"{self._role} versions", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread; a version that is being loaded is not waited for."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def look(self) -> bool:
        """Swap if another version is wanted and sound; whether one took over."""
        digest = ""
        try:
            digest, place = self._resolve()
            if self.model is not None and digest == self.model.digest:
                self._failed = _Failed()
                return False
            if digest == self._failed.digest and time.monotonic() < self._failed.again:
                return False
            new, seconds = self._ready(place)
        except Exception as error:  # whatever it is, the old version goes on
            self._refuse(digest, error)
            return False
        if self.model is not None and new.digest == self.model.digest:
            return False
        old, self.model, self.seconds = self.model, new, seconds
        self._failed = _Failed()
        before = None if old is None else old.version
        log("swapped", role=self._role, name=new.name, version=new.version, before=before)
        self._told(True)
        return True

    def _ready(self, place: Path) -> tuple[ServedModel, float]:
        new = ServedModel.load(place, key=self._key, threads=self._threads)
        self._fits(new)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            new.answer(new.example())
            took.append(time.perf_counter() - began)
        return new, min(took)

    def _refuse(self, digest: str, error: Exception) -> None:
        line = " ".join(str(error).split())[:300] or type(error).__name__
        failed = self._failed
        same = failed.digest == digest
        pause = min(_LONGEST, failed.pause * 2) if same else 1.0
        if not same or failed.told != line:
            answering = None if self.model is None else self.model.version
            log("refused", role=self._role, wanted=digest[:12], why=line, answering=answering)
            self._told(False)
        self._failed = _Failed(digest, time.monotonic() + pause, pause, line)

    def _watch(self, every: float) -> None:
        while not self._stop.wait(every):
            self.look()
