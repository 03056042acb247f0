"""The report of a language run: teacher, student and baseline on the same held-out text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.evaluation.costs.latency import Latency
from tutelage.evaluation.gates.judging import judge
from tutelage.evaluation.intervals import paired_interval
from tutelage.evaluation.language.figures import beside, figures_of
from tutelage.evaluation.language.table import Beside, TokenTable
from tutelage.evaluation.language.verdict import verdict
from tutelage.evaluation.report import SCHEMA, DataFacts, _thin, write_report

_ROLES = ("teacher", "student", "baseline")


@dataclass(frozen=True)
class MeasuredLanguage:
    """One model of the report.

    Attributes:
        table: What it said of each token of the test text.
        parameters: How many it has.
        bytes: Of its weights in 32 bits.
        macs: Of one row of text; None where they could not be counted.
        latency: Of one row of text.
        name: What it is, in a word.
        facts: Other figures of it alone, by name.
    """

    table: TokenTable
    parameters: int
    bytes: int
    macs: int | None
    latency: Sequence[Latency]
    name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LanguageSeed:
    """Nats a token on the test text, of one seed's student and of its baseline."""

    seed: int
    student: float
    baseline: float | None = None


@dataclass(frozen=True)
class Absent:
    """A teacher that is not measured beside the student.

    Attributes:
        name: What it is, in a word.
        why: A sentence.
    """

    name: str
    why: str


@dataclass(frozen=True)
class LanguageReport:
    """Everything measured; `figures` computes the rest, `write` makes the files.

    Attributes:
        recipe: The recipe, as data.
        seed: Of the shipped student.
        models: By role: ``teacher``, ``student``, and ``baseline`` where there is one.
        apart: Token by token, from `read_tokens`: ``student`` and ``baseline`` beside the teacher.
        data: Which data did what.
        text_bytes: Bytes of the tokens of the test text that count; None where not known.
        seeds: Of all seeds, the shipped one among them.
        gates: What was asked of the student.
        environment: Versions and machine.
        curves: Terms and validations, by arm.
        command: What to type to make it again.
        notes: Anything a reader must know, a sentence each.
        parts: More figures of the comparison, by name.
        tasks: From `tutelage.evaluation.language.asking.ask_all`, one a task.
        length: Tokens of a row.
        absent: The teacher, where it is none of ``models``.
    """

    recipe: Any
    seed: int
    models: Mapping[str, MeasuredLanguage]
    apart: Mapping[str, Beside]
    data: DataFacts
    text_bytes: int | None = None
    seeds: Sequence[LanguageSeed] = ()
    gates: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    command: str = ""
    notes: Sequence[str] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)
    tasks: Sequence[Mapping[str, Any]] = ()
    length: int = 0
    absent: Absent | None = None

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The whole report as plain data: what ``report.json`` holds."""
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": "language",
            "recipe": self.recipe,
            "seed": self.seed,
            "models": {role: self._model(role) for role in _ROLES},
            "absent": None if self.absent is None else asdict(self.absent),
            "comparison": self._comparison(),
            "data": {**vars(self.data), "row_tokens": self.length},
            "environment": dict(self.environment),
            "curves": {arm: _thin(rows) for arm, rows in self.curves.items() if rows},
            "command": self.command,
            "parts": dict(self.parts),
            "tasks": [dict(each) for each in self.tasks],
            "notes": list(self.notes),
        }
        found["gates"] = judge(found, self.gates)
        found["verdict"] = verdict(found)
        return found

    def write(self, folder: str | Path) -> dict[str, Any]:
        """Write ``report.json``, ``.html`` and ``.md`` into ``folder``; returns the figures."""
        from tutelage.evaluation.faces.language import markdown, page

        return write_report(Path(folder), self.figures, page, markdown)

    def _model(self, role: str) -> dict[str, Any] | None:
        arm = self.models.get(role)
        if arm is None:
            return None
        times = [asdict(each) for each in arm.latency]
        return {
            "name": arm.name,
            **figures_of(arm.table, text_bytes=self.text_bytes, seed=self.seed).as_dict(),
            "parameters": arm.parameters,
            "bytes": arm.bytes,
            "macs": arm.macs,
            "latency_ms": times[0],
            "tokens_per_second": 1000 * self.length * times[0]["batch"] / times[0]["p50"],
            **arm.facts,
        }

    def _comparison(self) -> dict[str, Any]:
        teacher, student = self.models.get("teacher"), self.models["student"]
        alone = self.models.get("baseline")
        empty = ("agreement", "predictive_kl", "negative_flip_rate", "positive_flip_rate")
        found: dict[str, Any] = {**dict.fromkeys(empty), "per_class": [], "control": None}
        if teacher is not None:
            near = self.apart.get("student")
            found |= beside(teacher.table, student.table, near, seed=self.seed)
        if teacher is not None and alone is not None:
            found["control"] = beside(
                teacher.table, alone.table, self.apart.get("baseline"), seed=self.seed
            )
        found["baseline"] = (
            None if alone is None else beside(alone.table, student.table, None, seed=self.seed)
        )
        found["seeds"] = [asdict(each) for each in self.seeds]
        found["gain"] = self._gain(found["baseline"])
        return found

    def _gain(self, alone: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Nats a token that the teacher saved the student, over seeds where there are several."""
        pairs = [(s.baseline, s.student) for s in self.seeds if s.baseline is not None]
        if len(pairs) >= 2:
            gain = paired_interval([b for b, _ in pairs], [s for _, s in pairs])
            return {**gain.as_dict(), "seeds": len(pairs)}
        if alone is None:
            return None
        change = alone["nll_change"]
        ends = {"mean": -change["mean"], "low": -change["high"], "high": -change["low"]}
        return {**change, **ends, "seeds": 1}
