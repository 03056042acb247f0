"""The same distillation in six ways, side by side: what a step costs.

    a  by hand, and the teacher's logits lie in memory: the least it can cost
    b  by hand, the teacher answers in each step
    c  tutelage, live teacher
    d  tutelage, answers kept by `tutelage.teachers.Cached`
    e  torchdistill 1.1.5, in an environment of its own (--torchdistill)
    f  the way of working of mdistiller: teacher in each step, items one by one

A LeNet of 62 thousand parameters learns from 8,000 images of Fashion-MNIST in batches of 128, with
crops and flips, fp32, channels first in every way. Stretches of steps are timed in turn, so that a
busy machine slows all alike; a ratio is the median over rounds of the ratio within a round. What
happens once a run (probe, checksums, building the cache) is outside the stretches; the cache's own
figures have rows of their own. The teachers are untrained, as only time is asked of them.

    python benchmarks/speed.py [--quick] [--torchdistill] [--record FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
from benchmarks.rivals.by_hand import ByHand
from benchmarks.rivals.environment import Torchdistill, Unavailable, prepared
from benchmarks.rivals.job import ALPHA, DECAY, MOMENTUM, PAD, PAIRS, RATE, TEMPERATURE, Job
from benchmarks.rivals.per_item import PerItem
from benchmarks.shared import Peak, append, stamp

from tutelage.core.batch import Batch
from tutelage.core.outputs import Answers, Outputs
from tutelage.data import Augment, Loader
from tutelage.engine import Hook, Learner, Machine, fit, sgd
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives import CrossEntropy, SoftTarget
from tutelage.settings import Classic

Way = Callable[[int], float]
RATIOS = (("d", "a"), ("c", "b"), ("d", "b"), ("e", "d"), ("e", "c"), ("f", "d"), ("f", "c"))
GOALS = {("d", "a"): 1.10, ("c", "b"): 1.05}


class Clock(Hook):
    """When each step was over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def stepped(self, step: int) -> None:
        """Look at the clock."""
        self.times.append(time.perf_counter())


class Remembered:
    """Answers in a table in memory, by view and id: stands in where there is no `Cached`."""

    def __init__(self, teacher: Frozen, loader: Loader):
        assert loader.views is not None
        size = int(loader.examples.ids.max()) + 1
        self.table = torch.empty(loader.views, size, 10)
        for view in range(loader.views):
            for batch in loader.epoch(view):
                self.table[view, batch.ids] = teacher(batch).logits

    def __call__(self, batch: Batch) -> Outputs:
        """Look it up."""
        return Outputs(self.table[batch.view, batch.ids])


class Ours:
    """Through `fit`."""

    def __init__(self, job: Job, loader: Loader, teacher: Answers):
        self.job, self.loader, self.teacher = job, loader, teacher

    def __call__(self, steps: int) -> float:
        """Seconds a step, after one that is not counted."""
        student = Learner(
            Observed(self.job.networks()[0]),
            sgd(learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY),
        )
        objective = (1 - ALPHA) * CrossEntropy() + ALPHA * SoftTarget(TEMPERATURE)
        setting, clock = Classic(student, self.teacher, objective), Clock()
        fit(setting, self.loader, steps=steps + 1, machine=Machine("cpu"), hooks=[clock])
        return (clock.times[-1] - clock.times[0]) / steps


def loader_of(job: Job) -> Loader:
    """Two views of each example, again and again, so that they can be kept."""
    augment = Augment([{"shift": {"pixels": PAD}}, "flip"])
    return Loader(job.data(), job.batch, augment=augment, seed=job.seed, drop_last=True, views=2)


def kept(teacher: Frozen, loader: Loader, folder: Path) -> tuple[Answers, dict[str, Any]]:
    """The teacher with its answers kept, and what that took."""
    try:
        from tutelage.teachers import Cached  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return Remembered(teacher, loader), {"teacher": "a table in memory, no Cached here"}
    whole = Loader(
        loader.examples, loader.batch_size, augment=loader.augment, seed=loader.seed, views=2
    )
    cache = Cached(teacher, folder, whole)
    filled = cache.fill(whole)
    batches = list(whole.epoch(0))
    start = time.perf_counter()
    for batch in batches:
        cache(batch)
    read = time.perf_counter() - start
    facts = {
        "teacher": "Cached",
        "answers": filled.answers,
        "built_per_second": round(filled.asked / max(filled.seconds, 1e-9)),
        "read_per_second": round(len(whole.examples) / read),
        "bytes_per_answer": round(filled.bytes / filled.answers, 1),
    }
    return cache, facts


def ways(pair: str, given: argparse.Namespace, folder: Path) -> tuple[dict[str, Way], dict]:
    """Every way to do the job that there is here, by letter."""
    job = Job(pair)
    loader = loader_of(job)
    cached, facts = kept(Frozen(Observed(job.networks()[1])), loader, folder / pair)
    found: dict[str, Way] = {
        "a": ByHand(job, free=True),
        "b": ByHand(job, free=False),
        "c": Ours(job, loader, Frozen(Observed(job.networks()[1]))),
        "d": Ours(job, loader, cached),
        "f": PerItem(job),
    }
    if given.torchdistill:
        try:
            found["e"] = Torchdistill(prepared(given.environment), pair, given.threads)
        except Unavailable as error:
            print(f"e is left out: {error}", file=sys.stderr)
    return dict(sorted(found.items())), facts


def measure(pair: str, given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """All rows of one pair."""
    found, facts = ways(pair, given, folder)
    rounds, steps = (5, 3) if given.quick else (given.rounds, 30)
    times: dict[str, list[float]] = {letter: [] for letter in found}
    for way in found.values():
        way(1)
    for number in range(rounds):
        letters = sorted(found)
        turn = number % len(letters)  # nobody is always first, or always after the same
        for letter in letters[turn:] + letters[:turn]:
            times[letter].append(found[letter](steps))
    for way in found.values():
        if isinstance(way, Torchdistill):
            way.close()
    about = {"runs": rounds, "steps_each": steps}
    for letter, each in times.items():
        value = round(1e3 * statistics.median(each), 3)
        yield {"row": f"{pair}: {letter}", "value": value, "unit": "ms a step", **about}
    for one, two in RATIOS:
        if one in times and two in times:
            ratios = sorted(x / y for x, y in zip(times[one], times[two], strict=True))
            quarters = [round(ratios[rounds // 4], 3), round(ratios[-1 - rounds // 4], 3)]
            row = {"row": f"{pair}: {one} / {two}", "ratio": round(statistics.median(ratios), 3)}
            goal = {"goal": GOALS[one, two]} if (one, two) in GOALS else {}
            yield {**row, "unit": "x", "quartiles": quarters, **goal, **about}
    for key, value in facts.items():
        if key != "teacher":
            yield {"row": f"{pair}: cache, {key}", "value": value, "unit": key, "runs": 1}
    yield {"row": f"{pair}: d is with", "value": facts["teacher"], "unit": "teacher", "runs": 1}


def peaks(pair: str, letters: str) -> Iterator[dict[str, Any]]:
    """Most memory of a process that does nothing but one way."""
    for letter in letters:
        command = [sys.executable, __file__, "--only", letter, "--pair", pair]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        value = round(float(said.splitlines()[-1]), 1)
        yield {"row": f"{pair}: {letter}, peak", "value": value, "unit": "MB", "runs": 1}


def only(letter: str, pair: str) -> None:
    """One way alone; prints the process's peak."""
    peak = Peak()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(pair)
        if letter in "ab":
            way: Way = ByHand(job, free=letter == "a")
        elif letter == "f":
            way = PerItem(job)
        else:
            loader, teacher = loader_of(job), Frozen(Observed(job.networks()[1]))
            way = Ours(
                job, loader, kept(teacher, loader, Path(folder))[0] if letter == "d" else teacher
            )
        way(20)
    print(peak.megabytes)


def surroundings(given: argparse.Namespace) -> Mapping[str, Any]:
    """What a figure is worth nothing without."""
    return {
        "threads": given.threads,
        **stamp(),
    }


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="one pair, at most a minute on two cores"
    )
    parser.add_argument("--torchdistill", action="store_true", help="with e: installs two packages")
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    place = caches / "tutelage-benchmarks" / "torchdistill-1.1.5"
    parser.add_argument("--environment", type=Path, default=place, help="of torchdistill")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", type=Path, help="append the lines to this file")
    parser.add_argument("--pair", choices=PAIRS, help="one pair alone")
    parser.add_argument("--only", choices=tuple("abcdf"), help="one way alone; its peak memory")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.only:
        only(given.only, given.pair or next(iter(PAIRS)))
        return
    pairs = [given.pair] if given.pair else list(PAIRS)[:1] if given.quick else list(PAIRS)
    for pair in pairs:
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measure(pair, given, Path(folder)))
        rows += [] if given.quick else peaks(pair, "abcdf")
        stamped = [{"benchmark": "speed", **row, **surroundings(given)} for row in rows]
        print("\n".join(map(json.dumps, stamped)), flush=True)
        if given.record:
            append(stamped, given.record)


if __name__ == "__main__":
    main()
