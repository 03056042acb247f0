"""Energy of an answer where the processor counts it (Intel and AMD: RAPL); never estimated else."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

RAPL = Path("/sys/class/powercap")
"""Where Linux shows the counters of processor packages."""


def unmeasurable(root: Path = RAPL) -> str | None:
    """Why energy cannot be measured on this machine, in a clause; None if it can.

    Example:
        >>> unmeasurable(Path("/nowhere"))
        'this machine shows no energy counters (/nowhere)'
    """
    packages = _packages(root)
    if not packages:
        return f"this machine shows no energy counters ({root})"
    try:
        _read(packages)
    except (OSError, ValueError):
        return "the energy counters of this machine may be read by its administrator alone"
    return None


def energy_per_answer(
    runs: Mapping[str, Callable[[], object]],
    *,
    batch: int,
    seconds: float = 0.5,
    root: Path = RAPL,
) -> dict[str, float]:
    """Joules of the processor's packages for one answer, idle power taken off.

    The whole machine's packages are counted: what else runs meanwhile is in the figure.

    Args:
        runs: One call of each model, by name.
        batch: Examples that a call answers.
        seconds: How long each is measured, and idling as well.
        root: Where the counters are; call `unmeasurable` before.

    Returns:
        Joules by name, at least 0.
    """
    packages = _packages(root)
    before, start = _read(packages), time.perf_counter()
    time.sleep(seconds)
    idle = _used(packages, before) / (time.perf_counter() - start)  # watts
    found = {}
    for name, run in runs.items():
        before, start, calls = _read(packages), time.perf_counter(), 0
        while time.perf_counter() - start < seconds or calls == 0:
            run()
            calls += 1
        spent = _used(packages, before) - idle * (time.perf_counter() - start)
        found[name] = max(spent, 0.0) / (calls * batch)
    return found


def _packages(root: Path) -> list[Path]:
    """The counters of whole packages; those below them count parts of the same energy."""
    if not root.is_dir():
        return []
    found = (each for each in root.iterdir() if each.name.count(":") == 1)
    return sorted(each for each in found if (each / "energy_uj").exists())


def _read(packages: list[Path]) -> list[int]:
    return [int((each / "energy_uj").read_text()) for each in packages]


def _used(packages: list[Path], before: list[int]) -> float:
    """Joules since ``before``; a counter that ran over its end began again at 0."""
    total = 0
    for each, earlier, now in zip(packages, before, _read(packages), strict=True):
        end = int((each / "max_energy_range_uj").read_text()) if now < earlier else 0
        total += now - earlier + end
    return total / 1e6
