"""From a package and a traffic log to windows that were judged: what ``tutelage monitor`` does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError, RecipeError
from tutelage.deployment.traffic import Traffic, read_traffic
from tutelage.monitoring.columns import INPUTS, Columns, columns_of
from tutelage.monitoring.family import Family, room_for
from tutelage.monitoring.judge import Judge, Looked
from tutelage.monitoring.rightness import Rightness
from tutelage.monitoring.subject import subject_of
from tutelage.recipe.watched import Asked as Asked
from tutelage.recipe.watched import Watched
from tutelage.recipe.watched_beside import LEAST, Beside

Array = NDArray[Any]
_LINE = 40  # windows of a time line


class Watch:
    """A model with its levels, which are drawn once however often its traffic is looked at.

    Args:
        package: A package or a finished run's folder.
        asked: What is looked at, and how.
        reference: A reference of its own; None takes the one in the package.
        name: What people call it; empty takes the package's.

    Raises:
        TutelageError: One line: the package or its reference is missing, broken or not the same.
    """

    def __init__(self, package: Path, asked: Asked, reference: Path | None = None, name: str = ""):
        if asked.window < LEAST:
            raise RecipeError(f"--window: {asked.window} was given: at least {LEAST} are needed.")
        self.asked, self.subject = asked, subject_of(package, reference)
        if name:
            self.subject = replace(self.subject, name=name)
        found = self.subject.reference
        room_for(asked.window, len(found))
        self._columns = columns_of(
            found.summaries, found.logits, found.features, self.subject.labels
        )
        self._judges: dict[tuple[str, int, float], Judge] = {}

    @property
    def reference(self) -> Columns:
        """Columns of the reference."""
        return self._columns

    def look(self, folder: Path, *, empty: bool = False) -> Watched:
        """Read the log, and judge its newest windows.

        Args:
            folder: Of the traffic.
            empty: Whether a log without rows is taken for one that has not begun.

        Raises:
            DataError: There is no traffic, or none of this model.
        """
        traffic = read_traffic(folder)
        mine, older = self._mine(traffic, folder, empty)
        before = traffic.take(_of_version(traffic, older) if older else np.zeros(0, int))
        asks = (self.asked.labels is not None, self.asked.teacher is not None, _shadowed(mine))
        rate = self.asked.false_alarms / (1 + sum(asks))
        beside = Beside(
            self.asked,
            self.subject,
            self._columns,
            lambda name, size, family: self._judge(name, size, rate, lambda: family),
        )
        beside.notes += _noted(traffic, mine)
        beside.series["traffic"] = self._windows(mine, rate, _LINE)
        beside.before["traffic"] = [
            _inputs_alone(one) for one in self._windows(before, rate, self.asked.of + 8)
        ]
        if asks[0] and len(mine):
            beside.labels(traffic)
        if asks[1] and len(mine):
            beside.teacher(mine, before)
        if asks[2]:
            beside.shadow(mine)
        now = None
        if beside.series["traffic"]:
            now = self._seen(mine.take(np.arange(len(mine) - self.asked.window, len(mine))))
        else:
            beside.notes.append(
                f"{len(mine):,} examples, and a window needs {self.asked.window:,}: too few, so "
                "nothing is claimed of inputs and predictions."
            )
        facts = _facts(traffic, mine, older, self.subject.digest)
        return Watched(
            self.subject, self.asked, beside.series, beside.before, older, facts, beside.notes, now
        )

    def _mine(self, traffic: Traffic, folder: Path, empty: bool) -> tuple[Traffic, str]:
        """Rows of this model, and the version that answered last before them."""
        if not len(traffic):
            if empty and not traffic.skipped:
                return traffic, ""
            raise DataError(
                f"{folder} holds no traffic ({traffic.skipped} files were truncated or foreign): "
                "check its path, or wait for the first answers."
            )
        if traffic.features != self.subject.reference.features or (
            traffic.logits.shape[1] != self.subject.reference.logits.shape[1]
        ):
            raise DataError(
                f"{folder} is the traffic of another model than {self.subject.name}: "
                f"{traffic.logits.shape[1]} classes and {len(traffic.features)} numbers of the "
                f"inputs, against {self.subject.reference.logits.shape[1]} and "
                f"{len(self.subject.reference.features)}."
            )
        own = np.array([self.subject.answered(version) for version in traffic.versions])
        if not own.any():
            seen = sorted({version[:12] for version in traffic.versions})
            raise DataError(
                f"{folder} has answers of {', '.join(seen[:5])}, and none of "
                f"{self.subject.digest[:12]} ({self.subject.name}): name the package that answered."
            )
        first = int(np.flatnonzero(own)[0])
        begun = np.flatnonzero(~own)
        begun = begun[begun < np.flatnonzero(own)[-1]]
        older = traffic.versions[int(begun[-1])] if len(begun) else ""
        start = int(begun[-1]) + 1 if len(begun) else first
        rows = np.arange(start, len(traffic))
        return traffic.take(rows[own[rows]]), older

    def _windows(self, rows: Traffic, rate: float, most: int) -> list[Looked]:
        """Windows that share no example, counted from the newest row, oldest first."""
        size = self.asked.window
        count = min(len(rows) // size, most)
        if not count:
            return []
        judge = self._judge("traffic", size, rate, lambda: Family(self._columns))
        made = []
        for back in range(count, 0, -1):
            end = len(rows) - (back - 1) * size
            part = rows.take(np.arange(end - size, end))
            seen = self._seen(part)
            made.append(judge.look(seen, times=part.times.tolist(), version=part.versions[-1]))
        return made

    def _seen(self, rows: Traffic) -> Columns:
        return columns_of(rows.summaries, rows.logits, rows.features, self.subject.labels)

    def _judge(
        self, name: str, size: int, rate: float, make: Callable[[], Family | Rightness]
    ) -> Judge:
        key = (name, size, rate)
        if key not in self._judges:
            self._judges[key] = Judge(make(), size, rate, self.asked.seed)
        return self._judges[key]


def _inputs_alone(window: Looked) -> Looked:
    """Another version's answers are not held to this one's reference; its inputs are."""
    return replace(window, findings=tuple(one for one in window.findings if one.cause == INPUTS))


def _of_version(traffic: Traffic, version: str) -> Array:
    return np.flatnonzero(np.array([each == version for each in traffic.versions]))


def _shadowed(rows: Traffic) -> bool:
    return bool(len(rows)) and bool(np.isfinite(rows.shadow).all(1).any())


def _noted(traffic: Traffic, mine: Traffic) -> list[str]:
    told = []
    if traffic.skipped:
        told.append(
            f"{traffic.skipped} files were truncated, foreign or of another model: skipped."
        )
    if traffic.broken:
        told.append(f"{traffic.broken} rows hold NaN or infinite numbers: left out.")
    if len(mine) and not _answers_now(traffic, mine):
        told.append(f"Version {traffic.versions[-1][:12]} answers by now, not the one looked at.")
    return told


def _answers_now(traffic: Traffic, mine: Traffic) -> bool:
    return len(mine) > 0 and bool(mine.times[-1] == traffic.times[-1])


def _facts(traffic: Traffic, mine: Traffic, older: str, digest: str) -> dict[str, Any]:
    seconds = mine.seconds[np.isfinite(mine.seconds)]
    latency = None
    if len(seconds):
        p50, p99 = np.quantile(seconds.astype(float), [0.5, 0.99]) * 1000
        latency = {"p50_ms": float(p50), "p99_ms": float(p99), "answers": len(seconds)}
    return {
        "rows": len(traffic),
        "of_this_version": len(mine),
        "version": digest or (mine.versions[-1] if len(mine) else ""),
        "answers_now": _answers_now(traffic, mine),
        "older_version": older,
        "skipped_files": traffic.skipped,
        "broken_rows": traffic.broken,
        "kept_inputs": len(mine.kept_rows),
        "latency": latency,
    }
