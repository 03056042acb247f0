"""Every way of teaching on one pair of networks, against its controls: alone, and a random teacher.

    python benchmarks/settings.py                  # all ways, small scale, on a CPU
    python benchmarks/settings.py mutual ps_kd     # some of them
    python benchmarks/settings.py --quick          # one way, few steps: it runs
    python benchmarks/settings.py --table          # what is known so far, as Markdown

Each way takes three seeds or more. The same way under a teacher that was never trained shows what
the procedure does without knowledge (a way that asks no teacher has no such row); the student
alone, from the same seeds, is what a gain is measured against. Nothing is chosen here: settings are
as written in `benchmarks/ways/`. Rows are appended as they are done, and ways that are there
already are passed over.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tutelage.core.errors import Interrupted, TutelageError
from tutelage.engine import Learner, fit, one_cycle, sgd
from tutelage.evaluation.intervals import mean_interval, paired_interval
from tutelage.evaluation.predict import predict
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives import CrossEntropy, SoftTarget
from tutelage.settings import Alone, Classic

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import ways
from benchmarks.pairings import SETTINGS, Setting
from benchmarks.shared import RESULTS, append, kept, stamp

from tutelage.data import Loader


def learner(setting: Setting, seed: int) -> Learner:
    """A student from its seed."""
    torch.manual_seed(seed)
    model = Observed(setting.student(), intake=setting.intake())
    return Learner(model, sgd(learning_rate=setting.rate), schedule=one_cycle(), clip=5.0)


def alone(setting: Setting, teacher: Frozen, seed: int) -> Observed:
    """The student under its labels."""
    student = learner(setting, seed)
    batches = Loader(setting.splits.train, setting.batch, seed=seed)
    fit(Alone(student, CrossEntropy()), batches, steps=setting.steps, seed=seed)
    return student.model


def classic(setting: Setting, teacher: Frozen, seed: int) -> Observed:
    """Soft targets beside labels, as a yardstick."""
    student = learner(setting, seed)
    batches = Loader(setting.splits.train, setting.batch, seed=seed)
    objective = CrossEntropy() + 9.0 * SoftTarget(4.0)
    fit(Classic(student, teacher, objective), batches, steps=setting.steps, seed=seed)
    return student.model


def known() -> dict[str, ways.Way]:
    """All ways, by name."""
    found: dict[str, ways.Way] = {"classic": classic}
    for module in pkgutil.iter_modules(ways.__path__):
        found |= importlib.import_module(f"benchmarks.ways.{module.name}").WAYS
    return found


def untrained(setting: Setting) -> Frozen:
    """A network of the teacher's shape that knows nothing."""
    torch.manual_seed(2000)
    model = setting.fresh_teacher()
    return Frozen(Observed(model, intake=setting.intake()))


@contextmanager
def counted(teacher: Frozen) -> Iterator[list[int]]:
    """How large the batches were that it was asked."""
    asked: list[int] = []
    hook = teacher.register_forward_hook(lambda module, given, answer: asked.append(len(given[0])))
    try:
        yield asked
    finally:
        hook.remove()


class Bench:
    """One setting and its controls."""

    def __init__(self, setting: Setting, seeds: Sequence[int]):
        self.setting, self.seeds = setting, seeds
        self.test = setting.splits.test.open("benchmarks/settings.py: final figures")
        self.random = untrained(setting)

    def reached(self, way: ways.Way, teacher: Frozen) -> list[float]:
        """The share of right answers on test, for each seed."""
        found = []
        for seed in self.seeds:
            answers = predict(way(self.setting, teacher, seed), self.test)
            right = answers.logits.argmax(-1) == answers.targets
            found.append(float(right.double().mean()))
        return found

    def row(self, name: str, way: ways.Way, control: Sequence[float]) -> dict[str, Any]:
        """A way's figures, and those of its controls."""
        started = time.perf_counter()
        teacher = self.setting.teachers[0]
        with counted(teacher) as asked:
            each = self.reached(way, teacher)
        # Who asks no teacher gets the same under any.
        random = self.reached(way, self.random) if control and asked else []
        several = len(each) > 1
        interval = mean_interval(each) if several else None
        gain = paired_interval(each, control) if several and control else None
        return {
            "benchmark": "settings",
            "setting": self.setting.name,
            "row": name,
            "value": sum(each) / len(each),
            "unit": "share of right answers, last weights",
            "runs": len(each),
            "interval": [interval.low, interval.high] if interval else None,
            "gain": [gain.mean, gain.low, gain.high] if gain else None,
            "random_teacher": sum(random) / len(random) if random else None,
            "asks_teacher": bool(asked),
            "each": each,
            "steps": self.setting.steps,
            "seeds": list(self.seeds),
            "seconds": round(time.perf_counter() - started, 1),
            **stamp(),
        }


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, best first."""
    lines = [
        "| way | last, % (95 % over seeds) | gain over alone | under a random teacher, % |",
        "|---|---|---|---|",
    ]
    for row in sorted(rows.values(), key=lambda row: -row["value"]):
        low, high = row["interval"] or (row["value"],) * 2
        gain, random = row["gain"], row["random_teacher"]
        cells = [
            f"`{row['row']}`",
            f"{100 * row['value']:.2f} ({100 * low:.2f} to {100 * high:.2f})",
            "{:+.2f} ({:+.2f} to {:+.2f})".format(*(100 * each for each in gain)) if gain else "",
            "" if random is None else f"{100 * random:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Fill in what is missing, and print every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("ways", nargs="*", help="some ways; none means all")
    parser.add_argument("--keep", type=Path, help="folder for the teachers that are trained here")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--record", type=Path, default=RESULTS / "settings_fashion.jsonl")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print(table(kept(given.record)))
        return
    given.data = given.weights = None
    given.device = "cpu"
    setting = SETTINGS["fashion"](given)
    setting.steps = given.steps or (8 if given.quick else setting.steps)
    bench = Bench(setting, [0] if given.quick else given.seeds)
    rows = {} if given.quick else kept(given.record)
    wanted = given.ways or (["classic"] if given.quick else list(known()))
    for name in wanted:
        if name not in known():
            raise SystemExit(f"{name} is no way of teaching: {', '.join(known())}")
    for name in ["alone", *wanted]:
        if name in rows:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            control = rows["alone"]["each"] if "alone" in rows else []
            rows[name] = bench.row(name, alone if name == "alone" else known()[name], control)
        except Interrupted:
            raise
        except TutelageError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        if not given.quick:
            append([rows[name]], given.record)
    for name in ["alone", *wanted]:
        if name in rows:
            print(json.dumps(rows[name]))


if __name__ == "__main__":
    main()
