"""How often `tutelage monitor` cries wolf, and what it finds: windows of Fashion-MNIST's test set.

    python benchmarks/drift.py RUN [--results FILE]       # about 10 minutes on one core
    python benchmarks/drift.py RUN --quick                # a minute: it runs

RUN is the folder of a finished run on ``fashion_mnist_small`` (``tutelage quickstart``). Its
``student.onnx`` answers the 2,000 validation images, which are the reference, and the 10,000 test
images, as they are and changed. Windows are drawn from these answers, each without repetition.
"validation" rows are those of everyday: a reference from validation, traffic from the test set.
"exchangeable" rows draw reference (4,000) and windows from the test set, anew five times: only
there is the asked rate what theory promises. A row says how many of how many windows raised an
alarm, with Wilson's 95 % interval.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.data import fashion_mnist, fashion_mnist_small
from tutelage.deployment.traffic import summary, summary_names
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.monitoring.columns import Columns, columns_of
from tutelage.monitoring.family import Family
from tutelage.monitoring.judge import Judge

Array = Any
RATE = 0.01
SIZES = (100, 250, 500, 1000)
FILE = Path(__file__).parent / "results" / "drift.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--results", type=Path, default=FILE)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    model = OnnxModel(given.run / "student.onnx")
    test = fashion_mnist().test.open("windows of traffic")
    batch = test.batch(torch.arange(len(test)))
    images, labels = batch.inputs.numpy(), batch.targets.numpy()
    held = fashion_mnist_small().validation
    reference = seen(model, held.batch(torch.arange(len(held))).inputs.numpy())
    rows = quick if given.quick else full
    with given.results.open("w", encoding="utf-8") as file:
        for row in rows(model, reference, images, labels):
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(row, flush=True)


def full(model: OnnxModel, reference: Columns, images: Array, labels: Array) -> Iterator[Any]:
    judges = {size: Judge(Family(reference), size, RATE) for size in SIZES}
    plain = seen(model, images)
    for size, judge in judges.items():
        yield row("validation", "none", "", size, *alarms(judge, plain, None, 500))
    yield from exchangeable(plain, 5, 100)
    for name, severity, change in changes(images, labels):
        moved, chances = change()
        there = seen(model, moved)
        for size, judge in judges.items():
            yield row("validation", name, severity, size, *alarms(judge, there, chances, 60))


def quick(model: OnnxModel, reference: Columns, images: Array, labels: Array) -> Iterator[Any]:
    judge = Judge(Family(reference), 250, RATE)
    yield row("validation", "none", "", 250, *alarms(judge, seen(model, images), None, 20))
    name, severity, change = next(changes(images, labels))
    yield row("validation", name, severity, 250, *alarms(judge, seen(model, change()[0]), None, 5))


def exchangeable(plain: Columns, times: int, windows: int) -> Iterator[Any]:
    for size in SIZES:
        told = asked = 0
        for time in range(times):
            order = np.random.default_rng(time).permutation(len(plain))
            judge = Judge(Family(part(plain, order[:4000])), size, RATE, seed=time)
            found, count = alarms(judge, part(plain, order[4000:]), None, windows)
            told, asked = told + found, asked + count
        yield row("exchangeable", "none", "", size, told, asked)


def seen(model: OnnxModel, images: Array) -> Columns:
    parts = np.array_split(images.astype(np.float32), max(1, len(images) // 500))
    from tutelage.core.batch import Batch

    logits = np.concatenate([model(Batch(torch.from_numpy(p))).logits.numpy() for p in parts])
    sums = np.concatenate([summary({"inputs": p}) for p in parts])
    return columns_of(sums, logits, summary_names({"inputs": parts[0][:1]}))


def part(columns: Columns, rows: Array) -> Columns:
    return Columns(
        columns.names, columns.causes, columns.values[rows], columns.classes[rows], columns.count
    )


def alarms(judge: Judge, stream: Columns, chances: Array, windows: int) -> tuple[int, int]:
    dice = np.random.default_rng(7)
    told = 0
    for _ in range(windows):
        rows = dice.choice(len(stream), judge.size, replace=False, p=chances)
        told += judge.look(part(stream, rows)).alarm
    return told, windows


def row(reference: str, drift: str, severity: object, size: int, told: int, asked: int) -> Any:
    interval = wilson(told, asked)
    return {
        "reference": reference,
        "drift": drift,
        "severity": severity,
        "window": size,
        "alarms": told,
        "windows": asked,
        "share": round(told / asked, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def changes(images: Array, labels: Array) -> Iterator[tuple[str, object, Callable[[], Any]]]:
    dice = np.random.default_rng(3)
    for by in (0.02, 0.05, 0.1):
        yield "brighter", by, lambda by=by: (np.clip(images + by, 0, 1), None)
    for by in (0.9, 0.8, 0.6):
        yield "less contrast", by, lambda by=by: (images * by, None)
    for by in (0.01, 0.03, 0.1):
        yield "noise", by, lambda by=by: (noisy(images, by, dice), None)
    for by in (0.1, 0.3, 1.0):
        yield "blur", by, lambda by=by: ((1 - by) * images + by * blurred(images), None)
    for by in (1, 2, 3):
        yield "shifted right, pixels", by, lambda by=by: (np.roll(images, by, 3), None)
    for by in (0.5, 0.0):
        yield "a class (shirt) at share of its own", by, lambda by=by: (images, mix(labels, 6, by))
    for by in (1.5, 2.0, 4.0):
        yield "a class (shirt) more often, times", by, lambda by=by: (images, mix(labels, 6, by))
    for by in (0.02, 0.05, 0.2, 1.0):
        yield "handwritten digits, share", by, lambda by=by: (with_digits(images, by, dice), None)


def noisy(images: Array, by: float, dice: np.random.Generator) -> Array:
    return np.clip(images + by * dice.normal(size=images.shape), 0, 1)


def blurred(images: Array) -> Array:
    wide = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    moved = [wide[:, :, y : y + 28, x : x + 28] for y in range(3) for x in range(3)]
    return sum(moved) / 9


def mix(labels: Array, which: int, by: float) -> Array:
    weights = np.where(labels == which, by, 1.0)
    return weights / weights.sum()


def with_digits(images: Array, share: float, dice: np.random.Generator) -> Array:
    from sklearn.datasets import load_digits

    digits = np.kron(load_digits().images / 16, np.ones((3, 3)))  # (N, 24, 24)
    digits = np.pad(digits, ((0, 0), (2, 2), (2, 2)))[:, None]
    chosen = dice.random(len(images)) < share
    mixed = images.copy()
    mixed[chosen] = digits[dice.integers(len(digits), size=int(chosen.sum()))]
    return mixed


if __name__ == "__main__":
    main()
