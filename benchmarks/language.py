"""A small language model from a larger one: alone, offline, from kept answers, on its own text.

    python benchmarks/language.py shakespeare --text input.txt
    python benchmarks/language.py wikitext --text wiki-valid.txt --test wiki-test.txt
    python benchmarks/language.py shakespeare --text input.txt --quick
    python benchmarks/language.py --table

One teacher (a `gpt` of the zoo on a byte-level BPE learnt from the training text), one student, and
for each way three seeds from the same first weights and in the same order of rows:

- ``alone``: cross entropy with the text;
- ``kd``: forward KL from the live teacher at temperature 1;
- ``top32``: the same from kept answers, 32 tokens and the mass of the others;
- ``top32_ce``: half of that, and half cross entropy with the text;
- ``on_policy``: half of the batches are the student's own text, judged by the teacher.

``on_policy`` goes on from a student of ``kd`` after two thirds of the epochs, and ``kd`` itself has
all epochs: the number of updates is the same. Learning rates were chosen on validation, once, by
``--tune``, and are in the file. Held-out perplexity is on the test text, read at the end. Rows are
appended to results/language.jsonl; what is there already is passed over.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shared import RESULTS, append, kept, stamp

from tutelage.core.outputs import Answers
from tutelage.data import Splits
from tutelage.data.text import TokenLoader, corpus
from tutelage.engine import Learner, adamw, fit, one_cycle
from tutelage.evaluation import parameters
from tutelage.evaluation.intervals import mean_interval, paired_interval
from tutelage.evaluation.language import read_tokens
from tutelage.models import Frozen, Observed, build_model
from tutelage.objectives import CrossEntropy, SoftTarget
from tutelage.objectives.base import AbstractObjective
from tutelage.settings import Alone, Classic, OnPolicy
from tutelage.teachers import Cached

FILE = RESULTS / "language.jsonl"
LENGTH = 128
BATCH = 32


@dataclass(frozen=True)
class Scale:
    """Of one text: sizes of tokenizer, teacher and student, epochs and learning rates."""

    tokens: int
    teacher: dict[str, Any]
    student: dict[str, Any]
    epochs: int
    teacher_epochs: int
    teacher_rate: float
    rates: dict[str, float]


LARGE = {"width": 128, "layers": 4, "heads": 4, "length": LENGTH, "dropout": 0.1}
SMALL = {"width": 64, "layers": 2, "heads": 2, "length": LENGTH}
RATES = {"alone": 0.012, "kd": 0.012, "top32": 0.012, "top32_ce": 0.012, "on_policy": 0.004}
SCALES = {
    "shakespeare": Scale(1024, LARGE, SMALL, 4, 5, 0.004, RATES),
    "wikitext": Scale(2048, LARGE, SMALL, 4, 5, 0.004, RATES),
    "quick": Scale(300, SMALL, {**SMALL, "layers": 1}, 1, 1, 0.006, RATES),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.table:
        print(table())
        return
    name = "quick" if options.quick else options.corpus
    scale, splits = SCALES[name], _splits(options, SCALES[name])
    if options.tune:
        _tune(scale, splits)
        return
    done = {} if options.quick else kept(FILE)
    with tempfile.TemporaryDirectory() as spare:
        bench = Bench(scale, splits, Path(spare))
        seeds = (0,) if options.quick else tuple(range(options.seeds))
        for way in bench.ways:
            for seed in seeds:
                row = f"{name}/{way}/{seed}"
                if row in done or (options.ways and way not in options.ways):
                    continue
                facts = bench.row(way, seed)
                told = {"benchmark": "language", "row": row, **facts, **stamp()}
                print(json.dumps(told), flush=True)
                if not options.quick:
                    append([told], FILE)


def table() -> str:
    """What is known so far, as Markdown."""
    rows = list(kept(FILE).values())
    lines = [
        "| text | way | perplexity | nats a token against alone | against kd | KL to the teacher "
        "| minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for text in dict.fromkeys(row["row"].split("/")[0] for row in rows):
        ways: dict[str, dict[int, dict[str, Any]]] = {}
        for row in rows:
            where, way, seed = row["row"].split("/")
            if where == text:
                ways.setdefault(way, {})[int(seed)] = row
        teacher = next(iter(ways["alone"].values()))["teacher_nll"]
        lines.append(f"| {text} | teacher | {math.exp(teacher):.2f} | | | | |")
        for way, found in ways.items():
            values = [each["value"] for each in found.values()]
            spread = mean_interval(values)
            cells = [
                f"{math.exp(spread.mean):.2f} ({math.exp(spread.low):.2f} to "
                f"{math.exp(spread.high):.2f})",
                *(_against(found, ways.get(other)) for other in ("alone", "kd")),
                f"{sum(each['kl'] for each in found.values()) / len(found):.3f}",
                f"{sum(each['seconds'] for each in found.values()) / len(found) / 60:.1f}",
            ]
            lines.append(f"| {text} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _against(found: dict[int, Any], other: dict[int, Any] | None) -> str:
    if other is None or other is found:
        return ""
    seeds = sorted(set(found) & set(other))
    gap = paired_interval([found[s]["value"] for s in seeds], [other[s]["value"] for s in seeds])
    return f"{gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"


class Bench:
    """One text, one teacher, all ways."""

    def __init__(self, scale: Scale, splits: Splits, spare: Path):
        self.scale, self.splits, self.spare = scale, splits, spare
        self.teacher = Frozen(self._taught())
        self.test = splits.test.open("the benchmark")
        self.ways: dict[str, Callable[[int], tuple[Observed, float]]] = {
            "alone": self.alone,
            "kd": self.kd,
            "top32": self.top32,
            "top32_ce": self.top32_ce,
            "on_policy": self.on_policy,
        }

    def row(self, way: str, seed: int) -> dict[str, Any]:
        """Train one student and read the test text with it."""
        student, seconds = self.ways[way](seed)
        models = {"teacher": self.teacher, "student": student}
        tables, apart = read_tokens(models, self.test, pairs={"student": ("teacher", "student")})
        return {
            "value": tables["student"].nll.mean().item(),
            "unit": "nats a token",
            "teacher_nll": tables["teacher"].nll.mean().item(),
            "kl": apart["student"].kl.mean().item(),
            "agreement": apart["student"].same.double().mean().item(),
            "seconds": round(seconds, 1),
            "parameters": {name: parameters(model).total for name, model in models.items()},
            "rate": self.scale.rates[way],
            "tokens": len(tables["student"]),
        }

    def alone(self, seed: int) -> tuple[Observed, float]:
        """No teacher."""
        learner = self._learner(seed, "alone")
        return self._fit(Alone(learner, CrossEntropy()), learner, seed)

    def kd(self, seed: int) -> tuple[Observed, float]:
        """The live teacher."""
        return self._classic(seed, self.teacher, "kd")

    def top32(self, seed: int) -> tuple[Observed, float]:
        """Kept answers; the first epoch of the first seed makes them."""
        with self._kept() as answers:
            return self._classic(seed, answers, "top32")

    def top32_ce(self, seed: int) -> tuple[Observed, float]:
        """Kept answers, and the text: it tells tokens of the tail apart, which they do not."""
        with self._kept() as answers:
            objective = 0.5 * CrossEntropy() + 0.5 * SoftTarget(1.0)
            return self._classic(seed, answers, "top32_ce", objective=objective)

    def on_policy(self, seed: int) -> tuple[Observed, float]:
        """Two thirds of the updates as ``kd``, then half of the batches on text of its own."""
        before = 2 * self.scale.epochs // 3
        student, first = self._classic(seed, self.teacher, "kd", epochs=max(before, 1))
        learner = self._learner(seed, "on_policy", student)
        setting = OnPolicy(learner, self.teacher, SoftTarget(1.0), share=0.5, most=LENGTH // 2)
        found, more = self._fit(setting, learner, seed + 100, max(self.scale.epochs - before, 1))
        return found, first + more

    def _classic(
        self,
        seed: int,
        teacher: Answers,
        way: str,
        epochs: int | None = None,
        objective: AbstractObjective | None = None,
    ) -> tuple[Observed, float]:
        learner = self._learner(seed, way)
        setting = Classic(learner, teacher, objective or SoftTarget(1.0))
        return self._fit(setting, learner, seed, epochs)

    def _kept(self) -> Cached:
        folder = self.spare / "answers"
        return Cached(self.teacher, folder, self._loader(0), form="top", k=32)

    def _taught(self) -> Observed:
        scale = self.scale
        model = self._model(scale.teacher, 1234)
        learner = Learner(
            model,
            adamw(learning_rate=scale.teacher_rate, weight_decay=0.1),
            schedule=one_cycle(),
            clip=1.0,
        )
        found, seconds = self._fit(
            Alone(learner, CrossEntropy()), learner, 1234, scale.teacher_epochs
        )
        print(f"teacher: {seconds:.0f} s", flush=True)
        return found

    def _learner(self, seed: int, way: str, student: Observed | None = None) -> Learner:
        model = self._model(self.scale.student, seed) if student is None else student
        rate = self.scale.rates[way]
        return Learner(
            model, adamw(learning_rate=rate, weight_decay=0.1), schedule=one_cycle(), clip=1.0
        )

    def _model(self, spec: dict[str, Any], seed: int) -> Observed:
        torch.manual_seed(seed)
        vocabulary = self.splits.train.vocabulary
        return Observed(build_model({"gpt": spec}, classes=vocabulary, shape=(LENGTH,)))

    def _loader(self, seed: int) -> TokenLoader:
        return TokenLoader(self.splits.train, BATCH, seed=seed)

    def _fit(
        self, setting: Any, learner: Learner, seed: int, epochs: int | None = None
    ) -> tuple[Observed, float]:
        batches, began = self._loader(seed), time.process_time()
        steps = (self.scale.epochs if epochs is None else epochs) * len(batches)
        fit(setting, batches, steps=steps, seed=seed)
        return learner.model.eval(), time.process_time() - began


def _tune(scale: Scale, splits: Splits) -> None:
    """Learning rates by validation, on a seed that is not used again."""
    with tempfile.TemporaryDirectory() as spare:
        bench = Bench(scale, splits, Path(spare))
        for way in ("alone", "kd"):
            for rate in (0.003, 0.006, 0.012):
                scale.rates[way] = rate
                student, _ = bench.ways[way](1000)
                tables, _ = read_tokens({"s": student}, splits.validation)
                print(way, rate, tables["s"].nll.mean().item(), flush=True)


def _splits(options: argparse.Namespace, scale: Scale) -> Splits:
    words: dict[str, Any] = {"tokenizer": {"bpe": {"size": scale.tokens}}, "length": LENGTH}
    if options.test is not None:
        words["test_path"] = str(options.test)
    text = options.text
    if options.quick:
        folder = Path(tempfile.mkdtemp())
        words.pop("test_path", None)
        (folder / "part.txt").write_text(Path(text).read_text(encoding="utf-8")[:60_000])
        text = folder / "part.txt"
    return corpus(str(text), **words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "corpus", nargs="?", default="shakespeare", choices=["shakespeare", "wikitext"]
    )
    parser.add_argument("--text", type=Path, help="the text to learn from")
    parser.add_argument(
        "--test", type=Path, help="the text to report on; else the end of the first"
    )
    parser.add_argument("--ways", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true", help="print validation by learning rate")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small part, one seed: it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
