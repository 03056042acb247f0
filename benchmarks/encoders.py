"""A sentence encoder with fewer layers, or none: taught, and the same student alone.

    python benchmarks/encoders.py --model models/minilm --text wiki-valid.txt --test wiki-test.txt \
        --labels sst2
    python benchmarks/encoders.py ... --tune | --quick
    python benchmarks/encoders.py --table

The teacher is all-MiniLM-L6-v2 (`python benchmarks/models.py models`). Students are 3 of its 6
layers, or the mean of static token vectors that it made; they learn from sentences without
labels, of WikiText-2's validation file and of SST-2 (``stsa.binary.*`` in the folder ``--labels``):

- ``cut``: as they were made, untaught (one row: there is no chance in it);
- ``alone``: two passes of dropout, each to find the other (SimCSE), on the same sentences;
- ``taught``: to be where the teacher's embedding is (`EmbedDistill`, cosine), from kept answers.

Read at the end, on other texts: ``article``, how often the nearest of all sentences of WikiText-2's
test file is of the same article; ``sst2``, test accuracy of a logistic regression on frozen
embeddings; ``neighbours`` and ``alike``, the agreement with the teacher; ``speed``, how many times
as fast as the teacher (batches of 64, medians of turns). Learning rates: ``--tune``, in
one epoch, at a seed of their own, on articles of the validation file that are not learnt from. Rows
are appended to results/encoders.jsonl; what is there already is passed over.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shared import RESULTS, append, kept, stamp
from benchmarks.ways.sentences import (
    LENGTH,
    Texts,
    alike,
    articles,
    as_set,
    embedded,
    labelled,
    probed,
    same_article,
    shared_neighbours,
    spread,
)
from benchmarks.ways.two_passes import TwoPasses

from tutelage.data.text import TokenLoader
from tutelage.engine import Learner, Machine, adamw, fit, one_cycle
from tutelage.evaluation import parameters
from tutelage.evaluation.intervals import mean_interval, paired_interval
from tutelage.models import Frozen, Observed, build_model
from tutelage.models.shrunk import shrunk, static_embeddings
from tutelage.objectives import EmbedDistill
from tutelage.settings import Classic
from tutelage.teachers import Cached

FILE = RESULTS / "encoders.jsonl"
BATCH, EPOCHS = 64, 3
MACHINE = Machine(precision="bf16")
LEARNT, READ, PROBED = 1600, 1500, 2000
"""Sentences of each text that are learnt from; of articles that are read; with labels, at most."""
STUDENTS = ("3 layers", "static")
RATES = {
    ("taught", "3 layers"): 1e-3,
    ("taught", "static"): 3e-3,
    ("alone", "3 layers"): 5e-5,
}
TRIED = {"taught": (3e-4, 1e-3), "alone": (1e-5, 5e-5), "static": (3e-3, 1e-2, 3e-2)}
FIGURES = ("article", "sst2", "neighbours", "alike")


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.table:
        print(table())
        return
    with tempfile.TemporaryDirectory() as spare:
        bench = Bench(options, Path(spare))
        if options.tune:
            bench.tune()
            return
        done = {} if options.quick else kept(FILE)
        seeds = range(1 if options.quick else options.seeds)
        for way, student, seed in _rows(seeds):
            row = f"{student}/{way}/{seed}"
            if row in done:
                continue
            told = {"benchmark": "encoders", "row": row, **bench.row(way, student, seed), **stamp()}
            print(json.dumps(told), flush=True)
            if not options.quick:
                append([told], FILE)


def _rows(seeds: range) -> list[tuple[str, str, int]]:
    once = [("itself", "teacher", 0), *(("cut", student, 0) for student in STUDENTS)]
    return once + [(*which, seed) for which in RATES for seed in seeds]


class Bench:
    """One teacher, its sentences, and all students."""

    def __init__(self, options: argparse.Namespace, spare: Path):
        self.folder, self.spare = str(options.model), spare
        self.teacher = Frozen(Observed(_built(self.folder)))
        wiki, words = articles(options.text), labelled(options.labels / "stsa.binary.train")
        last = max(wiki.groups) - 6
        apart = [i for i, each in enumerate(wiki.groups) if each >= last]
        learnt = wiki.some([i for i, each in enumerate(wiki.groups) if each < last])
        small = 64 if options.quick else None
        pool = [word for each in (learnt, words) for word in spread(each, small or LEARNT).words]
        self.pool = as_set(Texts(pool, []), self.folder)
        self.apart = self._held(wiki.some(apart), small)
        self.test = self._held(articles(options.test), small or READ)
        parts = [labelled(options.labels / f"stsa.binary.{one}") for one in ("dev", "test")]
        self.labelled = [self._held(words, small or PROBED), *(self._held(p, small) for p in parts)]
        self.epochs = 1 if options.quick or options.tune else EPOCHS

    def _held(self, texts: Texts, most: int | None) -> tuple[Any, list[int]]:
        chosen = texts if most is None else spread(texts, most)
        return as_set(chosen, self.folder), chosen.groups

    @cached_property
    def theirs(self) -> torch.Tensor:
        """The teacher's embeddings of the text that is read at the end."""
        return embedded(self.teacher, self.test[0])

    def row(self, way: str, student: str, seed: int) -> dict[str, Any]:
        """Make one student, and read the texts that were held back."""
        model, seconds = self.made(way, student, seed)
        vectors = embedded(model, self.test[0])
        sst2 = [embedded(model, each) for each, _ in self.labelled]
        return {
            "value": same_article(vectors, self.test[1]),
            "unit": "share of sentences whose nearest is of the same article",
            "sst2": probed(*sst2, [labels for _, labels in self.labelled]),
            "neighbours": shared_neighbours(vectors, self.theirs),
            "alike": alike(vectors, self.theirs),
            "speed": self.speed(model),
            "parameters": parameters(model).total,
            "seconds": round(seconds, 1),
            "sentences": len(self.pool),
            "rate": RATES.get((way, student)),
        }

    def made(self, way: str, student: str, seed: int) -> tuple[Any, float]:
        """The student, in the state that is measured, and the CPU seconds it took."""
        if way == "itself":
            return self.teacher, 0.0
        torch.manual_seed(seed)
        model = Observed(self.begun(student))
        began = time.process_time()
        if way != "cut":
            self._teach(model, way, RATES[way, student], seed)
        return model.eval(), time.process_time() - began

    def begun(self, student: str) -> torch.nn.Module:
        """What a student is before it learns."""
        if student == "static":
            assert self.pool.tokenizer is not None
            return static_embeddings(self.teacher, self.pool.tokenizer, None)
        return shrunk(_built(self.folder), layers=int(student[0]))

    def _teach(self, model: Observed, way: str, rate: float, seed: int) -> None:
        batches = TokenLoader(self.pool, BATCH, seed=seed)
        learner = Learner(
            model, adamw(learning_rate=rate, weight_decay=0.01), schedule=one_cycle(), clip=1.0
        )
        steps = self.epochs * len(batches)
        if way == "alone":
            fit(TwoPasses(learner), batches, steps=steps, seed=seed, machine=MACHINE)
            return
        with Cached(self.teacher, self.spare / "answers", batches) as answers:
            setting = Classic(learner, answers, EmbedDistill(measure="cosine"))
            fit(setting, batches, steps=steps, seed=seed, machine=MACHINE)

    def speed(self, model: Any) -> float:
        """How many times as fast as the teacher: medians of seven turns about."""
        batches = list(TokenLoader(self.test[0], 64, seed=0).in_order().epoch(0))[:4]
        taken: dict[str, list[float]] = {"teacher": [], "student": []}
        with torch.no_grad():
            for _ in range(7):
                for name, each in (("teacher", self.teacher), ("student", model)):
                    began = time.perf_counter()
                    for batch in batches:
                        each(batch)
                    taken[name].append(time.perf_counter() - began)
        times = {name: statistics.median(each) for name, each in taken.items()}
        return round(times["teacher"] / times["student"], 2)

    def tune(self) -> None:
        """Learning rates by articles that nobody learns from, at a seed that is not used again."""
        for way, student in RATES:
            for rate in TRIED["static" if student == "static" else way]:
                RATES[way, student] = rate
                model, _ = self.made(way, student, 1000)
                vectors = embedded(model, self.apart[0])
                print(way, student, rate, same_article(vectors, self.apart[1]), flush=True)


def _built(folder: str) -> torch.nn.Module:
    return build_model({f"hf:{folder}": {"task": "embedding"}}, classes=384, shape=(LENGTH,))


def table() -> str:
    """What is known so far, as Markdown: means over seeds, and the gain of teaching."""
    rows = kept(FILE)
    lines = [
        "| student | way | parameters | speed | same article | SST-2 | neighbours | alike |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, row in rows.items():
        shown = {**row, "article": row["value"]}
        groups.setdefault(name.rpartition("/")[0], []).append(shown)
    for name, found in groups.items():
        student, way = name.split("/")
        speed = statistics.median(each["speed"] for each in found)
        cells = [_spread([each[figure] for each in found]) for figure in FIGURES]
        lines.append(
            f"| {student} | {way} | {found[0]['parameters']:,} | {speed:.1f} | "
            + " | ".join(cells)
            + " |"
        )
    for student in STUDENTS:
        taught, alone = (groups.get(f"{student}/{way}", []) for way in ("taught", "alone"))
        if len(taught) == len(alone) >= 3:
            for figure in FIGURES[:2]:
                pairs = [[each[figure] for each in side] for side in (taught, alone)]
                gap = paired_interval(*pairs)
                lines.append(
                    f"\n{student}, {figure}, taught against alone: {100 * gap.mean:+.1f} points "
                    f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
                )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    found = mean_interval(values)
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/minilm"))
    parser.add_argument("--text", type=Path, help="WikiText's validation file")
    parser.add_argument("--test", type=Path, help="its test file")
    parser.add_argument("--labels", type=Path, help="a folder with SST-2's three files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small part, one seed: it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
