"""The report of a run: what teacher, student and baseline are worth, side by side."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError
from tutelage.evaluation.collapse import collapsed
from tutelage.evaluation.comparison import SeedResult, comparable, compare
from tutelage.evaluation.costs.latency import Latency
from tutelage.evaluation.faces.verdict import verdict
from tutelage.evaluation.gates.judging import judge
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.metrics import brier, broken, ece, nll, reliability, right
from tutelage.evaluation.predict import Predictions

SCHEMA = 1
_POINTS = 200  # of a training curve that are kept


@dataclass(frozen=True)
class Measured:
    """One model of the report.

    Attributes:
        predictions: Its answers to the test split.
        parameters: How many it has: `tutelage.evaluation.parameters`.
        bytes: Of its weights in 32 bits: `weight_bytes`.
        macs: Of one answer: `macs`; None where they could not be counted.
        latency: Of one answer, the backend that matters most first.
        name: What it is, in a word: ``"vgg"``.
        file_bytes: Of the file it is shipped in, where there is one.
    """

    predictions: Predictions
    parameters: int
    bytes: int
    macs: int | None
    latency: Sequence[Latency]
    name: str = ""
    file_bytes: int | None = None


@dataclass(frozen=True)
class DataFacts:
    """Which data did what: a reader must be able to see that the test split chose nothing.

    Attributes:
        name: Of the data set.
        train: Examples the student learned from.
        labelled: How many of these had labels for the student; None for all.
        validation: Examples held back for choosing.
        test: Examples of this report.
        chosen: What was chosen on the validation split: ``("epoch", "learning rate")``.
        test_opened: How often the test split was read; once, for this report.
        teacher: What the teacher had seen, in a clause, where it is not the same data:
            ``"the teacher was trained with all 55,000 labels"``.
        origin: Source and licence.
    """

    name: str
    train: int
    validation: int
    test: int
    labelled: int | None = None
    chosen: Sequence[str] = ()
    test_opened: int = 1
    teacher: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Report:
    """Everything measured; `figures` computes the rest, `write` makes the files.

    Attributes:
        recipe: The recipe, as data, or its name.
        seed: Seed of the shipped student; it is never chosen by its test accuracy.
        teacher: The teacher, measured; None where nobody taught, or it is not at hand.
        student: The shipped student, measured.
        data: Which data did what.
        baseline: The same student trained without a teacher, with the same seed; None if none was.
        seeds: Test accuracy of student and baseline for each seed, the shipped one among them.
        gates: Conditions for shipping, by name (see `tutelage.evaluation.gates.judging`).
        environment: From `tutelage.evaluation.environment`.
        curves: For each arm, rows ``{"step", "epoch", terms..., "validation_accuracy"}``.
        command: What to type to make all this again.
        notes: Anything a reader must know, one sentence each.
        parts: What the parts of the proof found, by name (see `tutelage.evaluation.part`).
        level: Confidence of all intervals.
        compression: What became of the student's smaller files, with their ``points``, the
            ``gate`` of their budget, and the chosen file's ``test``; None where none were made.
    """

    recipe: Any
    seed: int
    teacher: Measured | None
    student: Measured
    data: DataFacts
    baseline: Measured | None = None
    seeds: Sequence[SeedResult] = ()
    gates: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    command: str = ""
    notes: Sequence[str] = ()
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    level: float = 0.95
    compression: Mapping[str, Any] | None = None

    @property
    def arms(self) -> dict[str, Measured]:
        """The models that there are, by role."""
        known = {"teacher": self.teacher, "student": self.student, "baseline": self.baseline}
        return {role: arm for role, arm in known.items() if arm is not None}

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The whole report as plain data: what ``report.json`` holds."""
        comparable([arm.predictions for arm in self.arms.values()])
        shown = {role: _model(arm, self.level) for role, arm in self.arms.items()}
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "recipe": self.recipe,
            "seed": self.seed,
            "models": {role: shown.get(role) for role in ("teacher", "student", "baseline")},
            "comparison": compare(
                None if self.teacher is None else self.teacher.predictions,
                self.student.predictions,
                None if self.baseline is None else self.baseline.predictions,
                seeds=self.seeds,
                seed=self.seed,
                level=self.level,
            ),
            "data": {**vars(self.data), "classes": list(self.student.predictions.classes)},
            "environment": dict(self.environment),
            "curves": {arm: _thin(rows) for arm, rows in self.curves.items() if rows},
            "command": self.command,
            "parts": {name: dict(part) for name, part in self.parts.items()},
        }
        if self.compression is not None:
            found["compression"] = dict(self.compression)
        notes = list(self.notes)
        found = _finite(found, "", notes)
        found["notes"] = notes
        found["gates"] = judge(found, self.gates)
        if self.compression is not None:
            found["gates"].append(self.compression["gate"])
        found["verdict"] = verdict(found)
        return found

    def write(self, folder: str | Path) -> dict[str, Any]:
        """Write ``report.json``, ``.html`` and ``.md`` into ``folder``; returns the figures."""
        from tutelage.evaluation.faces.html import page
        from tutelage.evaluation.faces.markdown import markdown

        return write_report(Path(folder), self.figures, page, markdown)


def write_report(
    folder: Path,
    figures: dict[str, Any],
    page: Callable[[dict[str, Any]], str],
    markdown: Callable[[dict[str, Any]], str],
) -> dict[str, Any]:
    """Write the figures and their faces, each file whole; returns the figures."""
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "report.json", text + "\n")
    write_whole(folder / "report.html", page(figures))
    write_whole(folder / "report.md", markdown(figures))
    return figures


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, even if the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _model(arm: Measured, level: float) -> dict[str, Any]:
    if not arm.latency:
        raise DataError("a model was given without latency: measure it in one backend at least.")
    logits, targets = arm.predictions.logits, arm.predictions.targets
    first, *more = [latency.as_dict() for latency in arm.latency]
    why = collapsed(logits, targets, arm.predictions.classes)
    quality: dict[str, Any] = dict.fromkeys(("accuracy", "nll", "ece", "brier"))
    if not bool(broken(logits).any()):
        hits = right(logits, targets)
        share = wilson(int(hits.sum()), len(hits), level=level)
        bins = reliability(logits, targets)
        quality = {
            "accuracy": share.mean,
            "accuracy_interval": share.as_dict(),
            "nll": nll(logits, targets),
            "ece": ece(logits, targets),
            "ece_equal_mass": ece(logits, targets, equal_mass=True),
            "brier": brier(logits, targets),
            "confidence": logits.double().softmax(-1).amax(-1).mean().item(),
            "reliability": {
                "confidence": bins.confidence.tolist(),
                "accuracy": bins.accuracy.tolist(),
                "count": bins.count.long().tolist(),
            },
        }
    return {
        "name": arm.name,
        **quality,
        "collapsed": why,
        "parameters": arm.parameters,
        "bytes": arm.bytes,
        "file_bytes": arm.file_bytes,
        "macs": arm.macs,
        "latency_ms": first,
        "latency_more": more,
    }


def _thin(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """At most `_POINTS` rows with a validation accuracy, and as many of the others."""

    def some(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        every = max(1, math.ceil(len(rows) / _POINTS))
        return rows[:-1][::every] + rows[-1:]

    plain = [dict(row) for row in rows]
    kept = some([row for row in plain if row.get("validation_accuracy") is not None])
    kept += some([row for row in plain if row.get("validation_accuracy") is None])
    return sorted(kept, key=lambda row: row.get("step", row.get("epoch", 0)))


def _finite(value: Any, place: str, notes: list[str]) -> Any:
    """The same data with null for every number that JSON cannot hold, each noted."""
    if isinstance(value, float) and not math.isfinite(value):
        notes.append(f"{place} is {value}: it is left empty.")
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v, f"{place}.{k}".lstrip("."), notes) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v, f"{place}[{i}]", notes) for i, v in enumerate(value)]
    return value
