"""What a cache of a teacher's answers costs: rates of building and reading, bytes, memory.

The teacher is free (a table of logits), so that the rates are the cache's own. Each row builds a
cache in a folder of its own, then reads it in shuffled batches; a rate is the median over passes,
by the clock and by CPU time of this thread. Views are those of plain rows of 32 numbers; `images`
rows have 3x32x32 inputs, whose look is compared as well. `peak_mb` is what the process's memory
grew by at its highest, pages of the files included.

Beside it, for the smallest row, one file an answer written by ``torch.save``: how caches are often
made.

    python benchmarks/cache.py [--quick] [--record FILE]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.data import Loader, TensorSet
from tutelage.teachers import Cached

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shared import Peak, arguments, stamp, told

BATCH = 128


@dataclass(frozen=True)
class Row:
    """One cache."""

    classes: int
    form: Literal["dense", "top"]
    examples: int
    shape: tuple[int, ...] = (32,)

    @property
    def name(self) -> str:
        """As the result calls it."""
        what = "images, " if len(self.shape) > 1 else ""
        kept = "dense fp16" if self.form == "dense" else "top 10"
        return f"{what}{self.classes:,} classes, {kept}"


ROWS = (
    Row(10, "dense", 50_000),
    Row(10, "dense", 10_000, (3, 32, 32)),
    Row(100, "dense", 50_000),
    Row(100, "top", 50_000),
    Row(1_000, "dense", 20_000),
    Row(1_000, "top", 20_000),
    Row(10_000, "dense", 4_000),
    Row(10_000, "top", 4_000),
    Row(100_000, "dense", 500),
    Row(100_000, "top", 500),
)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this thread's CPU time."""
    clock, own = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - clock, time.thread_time() - own


def measure(row: Row, *, passes: int, seed: int, share: float) -> Mapping[str, object]:
    """One row of the result."""
    count = max(int(row.examples * share), BATCH)
    generator = torch.Generator().manual_seed(seed)
    examples = TensorSet(torch.rand(count, *row.shape, generator=generator))
    table = torch.randn(min(count, 512), row.classes, generator=generator) * 3
    loader = Loader(examples, BATCH, seed=seed)

    def ask(batch: Batch) -> Outputs:
        assert batch.ids is not None
        return Outputs(table[batch.ids % len(table)])

    def free(batch: Batch) -> Tensor:
        return ask(batch).logits

    peak = Peak()
    batches, ordered = list(loader.epoch(0)), list(loader.in_order().epoch(0))
    alone = timed(lambda: [free(batch) for batch in ordered])
    with tempfile.TemporaryDirectory() as folder:
        with Cached(ask, folder, loader, form=row.form, name="table") as kept:
            build = timed(lambda: [kept(batch) for batch in ordered])
            filled = kept.fill(loader.in_order())
        with Cached(None, folder, loader, form=row.form) as kept:
            first = timed(lambda: [kept(batch) for batch in batches])
            reads = [timed(lambda: [kept(batch) for batch in batches]) for _ in range(passes)]
    clock, own = (statistics.median(each) for each in zip(*reads, strict=True))
    return {
        "benchmark": "cache",
        "row": row.name,
        "value": round(count / clock),
        "unit": "answers read a second",
        "runs": passes,
        "cpu_reads": round(count / own),
        "first_reads": round(count / first[0]),
        "builds": round(count / max(build[0] - alone[0], 1e-9)),
        "cpu_builds": round(count / max(build[1] - alone[1], 1e-9)),
        "bytes_each": filled.record,
        "fp32_bytes_each": 4 * row.classes,
        "bytes": filled.bytes,
        "examples": count,
        "peak_mb": peak.grown,
        **facts(seed),
    }


def one_file_each(*, seed: int, count: int) -> Mapping[str, object]:
    """The same for ten classes with a file an answer."""
    logits = torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def write() -> None:
            for index in range(count):
                torch.save(logits[index].clone(), folder / f"{index}.pt")

        def read() -> None:
            for index in torch.randperm(count).tolist():
                torch.load(folder / f"{index}.pt", weights_only=True)

        build, reads = timed(write), timed(read)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "benchmark": "cache",
        "row": "10 classes, one torch.save a file",
        "value": round(count / reads[0]),
        "unit": "answers read a second",
        "runs": 1,
        "cpu_reads": round(count / reads[1]),
        "builds": round(count / build[0]),
        "cpu_builds": round(count / build[1]),
        "bytes_each": size // count,
        "examples": count,
        **facts(seed),
    }


def facts(seed: int) -> Mapping[str, object]:
    """On what it was made."""
    return {
        "batch": BATCH,
        "seed": seed,
        "threads": torch.get_num_threads(),
        **stamp(),
    }


def main() -> None:
    """Measure, print, and keep where asked."""
    chosen = arguments(__doc__)
    share, passes = (0.1, 3) if chosen.quick else (1.0, 7)
    rows = [measure(row, passes=passes, seed=chosen.seed, share=share) for row in ROWS]
    rows.append(one_file_each(seed=chosen.seed, count=500 if chosen.quick else 5_000))
    told(rows, chosen.record)


if __name__ == "__main__":
    main()
