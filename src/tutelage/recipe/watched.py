"""What ``tutelage monitor`` is asked, and what it found, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.monitoring.columns import Columns
from tutelage.monitoring.judge import Looked, sustained
from tutelage.monitoring.levels import rate_of_rule
from tutelage.monitoring.policy import Evidence
from tutelage.monitoring.subject import Subject

Series = Mapping[str, Sequence[Looked]]
"""By what was asked (``traffic``, ``labels``, ``teacher``, ``shadow``): windows, oldest first."""


@dataclass(frozen=True)
class Asked:
    """What is looked at, and how.

    Attributes:
        window: Examples in a window of traffic.
        false_alarms: Share of undrifted windows that may raise an alarm, all tests together.
        needed: Of the newest ``of`` windows, how many must exceed the level.
        of: Windows that count.
        labels: A file of labels; see `read_labels`.
        teacher: Words for a teacher; see `teacher_classes`.
        seed: Equal seeds give equal levels.
    """

    window: int = 500
    false_alarms: float = 0.01
    needed: int = 1
    of: int = 1
    labels: Path | None = None
    teacher: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Watched:
    """What was found.

    Attributes:
        subject: The model.
        asked: What was looked at.
        series: Windows of this version; none where there are too few examples.
        before: The same of the older version.
        older: That version; empty where the log has none.
        facts: Rows by what became of them.
        notes: What a reader must know, in sentences.
        now: Columns of the newest window; None where there is none.
    """

    subject: Subject
    asked: Asked
    series: Series
    before: Series
    older: str
    facts: Mapping[str, Any]
    notes: Sequence[str]
    now: Columns | None = field(default=None, repr=False)

    @property
    def alarm(self) -> bool:
        """Whether any series raises an alarm by the rule."""
        rule = self.asked.needed, self.asked.of
        return any(sustained(windows, None, *rule) for windows in self.series.values())

    @property
    def evidence(self) -> Evidence:
        """For a policy; empty where another version answers by now."""
        series = self.series if self.facts["answers_now"] else {}
        return Evidence(self.facts["version"], series, self.before, self.older)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""

        def plain(series: Series) -> dict[str, Any]:
            return {name: [one.as_dict() for one in found] for name, found in series.items()}

        rule = {"needed": self.asked.needed, "of": self.asked.of}
        rate = rate_of_rule(self.asked.false_alarms, self.asked.needed, self.asked.of)
        return {
            "model": {"name": self.subject.name, "digest": self.subject.digest},
            "alarm": self.alarm,
            "judged": any(self.series.values()),
            "window": self.asked.window,
            "false_alarms": {"window": self.asked.false_alarms, "rule": rule, "of_rule": rate},
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "series": plain(self.series),
            "before": {"version": self.older, "series": plain(self.before)},
        }
