"""What is looked at beside inputs and predictions: labels, a teacher, a shadow model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.deployment.traffic import Traffic
from tutelage.evaluation.intervals import wilson
from tutelage.monitoring.columns import Columns
from tutelage.monitoring.judge import Judge, Looked
from tutelage.monitoring.rightness import ACCURACY, DISAGREEMENT, Rightness
from tutelage.monitoring.subject import Subject
from tutelage.recipe.watched import Asked
from tutelage.recipe.watched_labels import read_labels
from tutelage.recipe.watched_teacher import teacher_classes

Array = NDArray[Any]
LEAST = 30
"""Fewer examples make no window."""


@dataclass
class Beside:
    """Looks at one log, and collects windows and sentences.

    Attributes:
        asked: What is looked at.
        subject: The model.
        columns: Of its reference.
        judge: Levels, each drawn once: of a name, a size, a family.
        series: Windows of this version.
        before: Windows of the older version.
        notes: What was found, and what cannot be claimed.
    """

    asked: Asked
    subject: Subject
    columns: Columns
    judge: Callable[[str, int, Rightness], Judge]
    series: dict[str, list[Looked]] = field(default_factory=dict)
    before: dict[str, list[Looked]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def labels(self, traffic: Traffic) -> None:
        """Accuracy and calibration of answers whose labels came back."""
        assert self.asked.labels is not None
        told = read_labels(self.asked.labels, traffic, self.subject.labels)
        own = np.array([not word or self.subject.answered(word) for word in told.versions])
        self.notes.append(f"{share(told.hits[own])} of the labelled answers are right.")
        reference = self.subject.reference
        if reference.labels is None:
            self.notes.append("The reference has no labels: nothing is claimed of accuracy.")
            return
        hits = reference.logits.argmax(1) == reference.labels
        sure = self.columns.values[:, self.columns.names.index("confidence")]
        known = bool(np.isfinite(told.confidence).all())
        family = Rightness(hits, sure if known else None, ACCURACY, "wrong answers, by labels")
        for where, rows in ((self.series, own), (self.before, ~own)):
            confidence = told.confidence[rows] if known else None
            where["labels"] = self._parts("labels", family, told.hits[rows], confidence)
        if not self.series["labels"]:
            self.notes.append(f"{int(own.sum())} labels are too few: nothing is claimed of them.")

    def teacher(self, mine: Traffic, older: Traffic) -> None:
        """How often a teacher gives another class to inputs that were kept."""
        if not len(mine.kept_rows):
            self.notes.append("The log kept no inputs, so the teacher could not be asked.")
            return
        same, before = self._agreed(mine), self._agreed(older)
        self.notes.append(f"{share(same)} of the kept inputs get the teacher's class.")
        reference = self.subject.reference
        if reference.teacher is None:
            self.notes.append("The reference has no teacher's answers: nothing is claimed of that.")
            return
        agreed = reference.logits.argmax(1) == reference.teacher
        family = Rightness(agreed, None, DISAGREEMENT, "disagreement with the teacher")
        self.series["teacher"] = self._parts("teacher", family, same, None)
        self.before["teacher"] = self._parts("teacher", family, before, None)
        if not self.series["teacher"]:
            self.notes.append(f"{len(same)} kept inputs are too few: nothing is claimed of them.")

    def shadow(self, mine: Traffic) -> None:
        """The newest answers of a shadow model, against its earlier ones."""
        both = np.flatnonzero(np.isfinite(mine.shadow).all(1))
        same = mine.logits[both].argmax(1) == mine.shadow[both].argmax(1)
        self.notes.append(f"{share(same)} of the answers are the shadow model's as well.")
        size = min(self.asked.window * self.asked.of, len(same) // 3)
        if size // self.asked.of < LEAST:
            self.notes.append(f"{len(same)} of its answers are too few: nothing is claimed.")
            return
        first, newest = same[: len(same) - size], same[len(same) - size :]
        family = Rightness(first, None, DISAGREEMENT, "disagreement with the shadow model")
        name = f"shadow {len(first)} {int(first.sum())}"
        self.series["shadow"] = self._parts(name, family, newest, None)

    def _agreed(self, rows: Traffic) -> Array:
        assert self.asked.teacher is not None
        if not len(rows.kept_rows):
            return np.zeros(0, bool)
        told = teacher_classes(self.asked.teacher, rows.kept, self.subject.labels)
        return np.asarray(told == rows.logits[rows.kept_rows].argmax(1))

    def _parts(
        self, name: str, family: Rightness, hits: Array, confidence: Array | None
    ) -> list[Looked]:
        """As many equal windows as the rule counts, of the newest answers."""
        size = min(len(hits) // self.asked.of, len(family) // 2)
        if size < LEAST:
            return []
        judge = self.judge(name, size, family)
        made = []
        for back in range(self.asked.of, 0, -1):
            end = len(hits) - (back - 1) * size
            rows = slice(end - size, end)
            made.append(judge.look(hits[rows], None if confidence is None else confidence[rows]))
        return made


def share(hits: Array) -> str:
    """A share with Wilson's interval, in words."""
    if not len(hits):
        return "None"
    found = wilson(int(hits.sum()), len(hits))
    return (
        f"{100 * found.mean:.1f} % (95 % interval {100 * found.low:.1f} to "
        f"{100 * found.high:.1f}; {len(hits):,})"
    )
