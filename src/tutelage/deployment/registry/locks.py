"""One writer at a time: a lock that is gone with the process that held it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.core.errors import RecipeError

_STEP = 0.05  # seconds between two tries


@contextmanager
def locked(path: Path, *, seconds: float = 120.0) -> Iterator[None]:
    """Hold the lock of a file; whoever is killed lets go of it.

    Args:
        path: Made where it is not there; it stays, empty.
        seconds: How long another process is waited for.

    Raises:
        RecipeError: Another process holds it all the time.
    """
    import fcntl

    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(fcntl, number, path, time.monotonic() + seconds)
        yield
    finally:
        os.close(number)


def _take(fcntl: object, number: int, path: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined]
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise RecipeError(
                    f"another process has been writing to the registry of {path.parent} all the "
                    "time: wait for it, or end it."
                ) from error
            time.sleep(_STEP)
        else:
            return
