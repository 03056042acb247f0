"""Under which limits models are measured: batches and threads, some of them under a name."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.errors import DataError, suggest


@dataclass(frozen=True)
class Conditions:
    """Under which limits all are measured.

    Attributes:
        batches: Examples answered in one call.
        threads: How many an operation may use.
        preset: The name of these limits, if they have one.

    Raises:
        DataError: A number is below 1, or there is none.
    """

    batches: Sequence[int] = (1, 8, 32)
    threads: Sequence[int] = (1,)
    preset: str | None = None

    def __post_init__(self) -> None:
        for name, numbers in (("batch", self.batches), ("threads", self.threads)):
            if not numbers or min(numbers) < 1:
                raise DataError(f"{name} is {list(numbers)}: give whole numbers of at least 1.")

    @property
    def limits(self) -> str:
        """In words.

        >>> Conditions((1,), (1,)).limits
        'limits on this machine: threads 1; batch 1'
        """
        threads, batches = (", ".join(map(str, each)) for each in (self.threads, self.batches))
        return f"limits on this machine: threads {threads}; batch {batches}"


def cores() -> int:
    """How many cores this process may use."""
    linux = sys.platform == "linux"
    return len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1


PRESETS: Mapping[str, Callable[[], Conditions]] = {
    "phone": lambda: Conditions((1,), (1,), "phone"),
    "pi": lambda: Conditions((1,), (min(4, cores()),), "pi"),
    "server": lambda: Conditions((1, 8, 32), (cores(),), "server"),
}
"""Limits under a name: of threads and batch alone. The processor stays what it is."""


def preset(name: str) -> Conditions:
    """The limits of that name.

    Raises:
        DataError: There is none; the nearest name is told.

    Example:
        >>> preset("phone").limits
        'limits on this machine: threads 1; batch 1'
    """
    if name not in PRESETS:
        raise DataError(f"there is no preset {name!r}. {suggest(name, PRESETS)}")
    return PRESETS[name]()
