"""What all benchmarks do alike: where a figure was measured, and how its row is kept."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.evaluation.environment import environment

RESULTS = Path(__file__).with_name("results")
_STATUS = Path("/proc/self/status")


def stamp() -> dict[str, Any]:
    """When, with which versions, on what kind of hardware."""
    found = environment(date=time.strftime("%Y-%m-%d"), threads=torch.get_num_threads())
    threads = torch.get_num_threads()
    hardware = f"{found['device']} {found['platform']}, {found['cores']} cores, {threads} thread(s)"
    return {"date": found["date"], "versions": found["versions"], "hardware": hardware}


def arguments(doc: str | None) -> argparse.Namespace:
    """``--quick``, ``--threads``, ``--seed`` and ``--record``, as small benchmarks take them."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute on two cores")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="append the lines to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def told(rows: Sequence[Mapping[str, Any]], record: Path | None) -> None:
    """Print rows as lines of JSON, and keep them where that is asked."""
    print("\n".join(map(json.dumps, rows)))
    if record:
        append(rows, record)


class Peak:
    """Most memory of this process since this was made, where the system can tell that; else ever.

    On Linux the kernel's high-water mark is set back. (`getrusage` there even counts what the
    parent held before it started this process.)
    """

    def __init__(self) -> None:
        if _STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        self._before = self.megabytes

    @property
    def megabytes(self) -> float:
        """The mark itself."""
        if _STATUS.exists():
            lines = _STATUS.read_text(encoding="utf-8").splitlines()
            return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1024
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    @property
    def grown(self) -> float:
        """By how much it rose."""
        return round(self.megabytes - self._before, 1)


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """Rows that are done, by name."""
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {row["row"]: row for row in rows}


def append(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Keep rows, each on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
