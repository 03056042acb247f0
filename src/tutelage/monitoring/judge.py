"""Windows of traffic held to a level: what was looked at, what was found, is it an alarm."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.monitoring.columns import Columns
from tutelage.monitoring.family import CHI, MMD, Family
from tutelage.monitoring.levels import Level, draws_for, level_of
from tutelage.monitoring.rightness import DISAGREEMENT, Rightness

Array = NDArray[Any]


@dataclass(frozen=True)
class Finding:
    """One test of one window.

    Attributes:
        cause: ``inputs``, ``predictions``, ``accuracy`` or ``disagreement``.
        what: What was looked at.
        statistic: Its name.
        value: What was found.
        threshold: The statistic at the level.
        reading: The same in deviations from what it is without drift.
        alarm: Whether it exceeds the level.
    """

    cause: str
    what: str
    statistic: str
    value: float
    threshold: float
    reading: float
    alarm: bool

    @property
    def advice(self) -> str:
        """What to look at, in a sentence."""
        if self.cause == "accuracy":
            return "Labels contradict the model: read the wrong examples."
        if self.cause == DISAGREEMENT:
            return "The models differ more than they did: look at examples where they do."
        if self.statistic == CHI:
            return "Classes come in another mix: is one missing, or new?"
        if self.statistic == MMD:
            return "The inputs as a whole are others: look at a few of them."
        if self.cause == "predictions":
            return "Answers are spread otherwise: are inputs drifting, or is it the model?"
        return "The inputs moved: look at source, scaling and preprocessing."


@dataclass(frozen=True)
class Looked:
    """One window: all tests of it.

    Attributes:
        begin: Time of its first example, in seconds since 1970; NaN where it is not known.
        end: Time of its last.
        count: Examples.
        version: What answered.
        findings: Of all tests, largest reading first.
        level: What readings are held to.
        p: Share of undrifted windows whose largest reading is at least as large.
    """

    begin: float
    end: float
    count: int
    version: str
    findings: tuple[Finding, ...]
    level: float
    p: float

    @property
    def alarm(self) -> bool:
        """Whether any test exceeds the level."""
        return any(finding.alarm for finding in self.findings)

    @property
    def causes(self) -> frozenset[str]:
        """What the alarms tell of."""
        return frozenset(finding.cause for finding in self.findings if finding.alarm)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        times = {
            name: None if np.isnan(getattr(self, name)) else getattr(self, name)
            for name in (
                "begin",
                "end",
            )
        }
        findings = [{**asdict(one), "advice": one.advice} for one in self.findings]
        alarm = {"alarm": self.alarm, "causes": sorted(self.causes)}
        return {**asdict(self), **times, **alarm, "findings": findings}


class Judge:
    """A family of tests with its level for windows of one size.

    Args:
        family: What is tested.
        size: Examples in a window.
        false_alarms: Share of undrifted windows that may raise an alarm, over all its tests.
        seed: Equal seeds give equal levels.

    Example:
        >>> hits = np.arange(1000) % 10 > 0
        >>> judge = Judge(Rightness(hits, None, "accuracy", "wrong answers"), 100, 0.01)
        >>> judge.look(hits[:100] & False, None).alarm
        True
    """

    def __init__(self, family: Family | Rightness, size: int, false_alarms: float, seed: int = 0):
        self.family, self.size = family, size
        dice = np.random.default_rng([seed, size])
        drawn = family.drawn(size, draws_for(false_alarms), dice)
        kinds = tuple(test.kind for test in family.tests)
        self.level: Level = level_of(drawn, kinds, false_alarms)

    def look(
        self, *window: Columns | Array | None, times: Sequence[float] = (), version: str = ""
    ) -> Looked:
        """Judge a window: `Columns` for a `Family`, hits and confidence for a `Rightness`."""
        found = self.family.statistics(*window)  # type: ignore[arg-type]  # as the family takes
        readings = self.level.read(found)
        values = self.family.raw(found, self.size)
        limits = self.family.raw(self.level.at(), self.size)
        findings = [
            Finding(
                test.cause,
                test.what,
                test.kind,
                float(values[place]),
                float(limits[place]),
                float(readings[place]),
                bool(readings[place] > self.level.value),
            )
            for place, test in enumerate(self.family.tests)
        ]
        findings.sort(key=lambda finding: -finding.reading)
        begin, end = (times[0], times[-1]) if len(times) else (float("nan"), float("nan"))
        return Looked(
            float(begin),
            float(end),
            self.size,
            version,
            tuple(findings),
            self.level.value,
            self.level.p(float(readings.max())),
        )


def sustained(windows: Sequence[Looked], cause: str | None, needed: int, of: int) -> bool:
    """Whether at least ``needed`` of the newest ``of`` windows raise an alarm (of a cause)."""
    newest = windows[-of:]
    told = [one for one in newest if (one.alarm if cause is None else cause in one.causes)]
    return len(told) >= needed
