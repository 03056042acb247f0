"""Why a gate passed or failed, in words: what its interval shows, and what more data would."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.evaluation.distributions import student_t_quantile
from tutelage.evaluation.gates.gauges import level_of, tested
from tutelage.evaluation.wording import gate_range

_MOST = 10_000_000  # examples: nobody has more
_MOST_SEEDS = 1_000


@dataclass(frozen=True)
class Reading:
    """A gate's figure.

    Attributes:
        mean: The figure; None where it could not be measured.
        low: Lower end of its interval; None where it has none.
        high: Upper end.
        level: Confidence of the interval.
        examples: How many examples (or seeds) it rests on; 0 where that is not known.
        of: What these are.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    examples: int = 0
    of: str = "test examples"

    @classmethod
    def of_figure(cls, found: Any, report: Mapping[str, Any]) -> "Reading":
        """From what `Gate.figure` returned."""
        if not isinstance(found, Mapping):
            return cls(found)
        ends = found.get("low"), found.get("high")
        low, high = ends if None not in ends else (None, None)
        return cls(
            found.get("mean"),
            low,
            high,
            found.get("level") or level_of(report),
            found.get("examples") or tested(report),
            found.get("of", "test examples"),
        )

    @property
    def sure(self) -> bool:
        """Whether it has an interval."""
        return self.low is not None and self.high is not None

    def tried(self, by: str, at_most: bool) -> float | None:
        """What is held against the threshold: an end of the interval, or the figure itself."""
        if by == "estimate" or self.mean is None:
            return self.mean
        return self.high if (by == "shown") == at_most else self.low


def told(gate: Mapping[str, Any], reading: Reading) -> str:
    """A clause on what the verdict about a gate rests on.

    Args:
        gate: Its record in a report, without the evidence.
        reading: Its figure.
    """
    if reading.mean is None:
        return "it could not be measured, and what is not measured is not met"
    if not reading.sure:
        if gate["by"] == "estimate":
            return "judged by the figure alone: it has no interval"
        return f"it has no interval to be {gate['by'].replace('_', ' ')} by: write by: estimate"
    ends = _ends(gate, reading)
    if gate["by"] == "estimate":
        return f"judged by the figure alone, as asked; its {ends}"
    if gate["by"] == "not_refuted":
        return f"{'not refuted' if gate['passed'] else 'refuted'}: its {ends}"
    if gate["passed"]:
        sure = f"{100 * (1 + reading.level) / 2:g} %"
        return f"shown: its whole {ends}, is within (one-sided, {sure} sure)"
    return _not_shown(gate, reading, ends)


def enough(gate: Mapping[str, Any], reading: Reading) -> int | None:
    """About how many examples (or seeds) would show what the figure says; None for none.

    An interval narrows with the root of their number, so with the figure as it is
    ``examples · (reach / margin)²`` are enough, the margin being its distance to the threshold.
    """
    if reading.mean is None or not reading.sure or not reading.examples:
        return None
    end = reading.tried("shown", gate["rule"] == "at most")
    assert end is not None
    reach, margin = abs(end - reading.mean), abs(gate["threshold"] - reading.mean)
    if margin == 0:
        return None
    if reading.of == "seeds":
        return _enough_seeds(reach, margin, reading)
    needed = reading.examples * (reach / margin) ** 2
    return _rounded_up(needed) if needed <= _MOST else None


def _enough_seeds(reach: float, margin: float, reading: Reading) -> int | None:
    """Student's t shortens too with more seeds: ``t(n) / sqrt(n)`` must fall to the margin's."""
    n = reading.examples
    deviation = reach * math.sqrt(n) / student_t_quantile(reading.level, n - 1)
    for more in range(n, _MOST_SEEDS):
        if student_t_quantile(reading.level, more - 1) / math.sqrt(more) <= margin / deviation:
            return more
    return None


def _not_shown(gate: Mapping[str, Any], reading: Reading, ends: str) -> str:
    assert reading.mean is not None
    at_most, threshold = gate["rule"] == "at most", gate["threshold"]
    better = reading.low if at_most else reading.high
    assert better is not None
    if (better > threshold) if at_most else (better < threshold):
        return f"shown to be missed: its whole {ends}, is beyond"
    if (reading.mean > threshold) if at_most else (reading.mean < threshold):
        return f"the figure itself misses it; its {ends}"
    needed = enough(gate, reading)
    more = (
        f"about {needed:,} {reading.of} would be needed, if the figure stays what it "
        f"is, in place of {reading.examples:,}"
        if needed
        else "no number of examples that one could have would show it"
    )
    return f"met by the figure but not shown: its {ends}, reaches beyond; {more}"


def _ends(gate: Mapping[str, Any], reading: Reading) -> str:
    return f"{100 * reading.level:g} % interval, {gate_range(gate)}"


def _rounded_up(number: float) -> int:
    """To two figures, so that nobody takes it for exact.

    >>> _rounded_up(2341.2), _rounded_up(7.1)
    (2400, 8)
    """
    step: int = 10 ** max(0, int(math.log10(max(number, 1))) - 1)
    return math.ceil(number / step) * step
