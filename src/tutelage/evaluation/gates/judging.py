"""Conditions a student must meet to be shipped, checked against the figures of a report.

A gate is judged by the interval of its figure, not by the figure alone: `shown` asks that the worse
end of the interval is within the threshold, which is a test that the student is not worse than
allowed (one-sided: at 95 % intervals, a student that is worse passes in 2.5 % of cases). A gate
fails where its figure is missing: what could not be measured was not met.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from tutelage.core.errors import RecipeError, suggest
from tutelage.evaluation.examining import full
from tutelage.evaluation.gates import gauges
from tutelage.evaluation.gates.evidence import Reading, told
from tutelage.evaluation.gates.gate import Demand, Gate


def _speedup(report: Mapping[str, Any]) -> float | None:
    times = [report["models"][role]["latency_ms"]["p50"] for role in ("teacher", "student")]
    return times[0] / times[1] if times[1] else None


def _p99(report: Mapping[str, Any]) -> float | None:
    return report["models"]["student"]["latency_ms"]["p99"]  # type: ignore[no-any-return]


def _cost(report: Mapping[str, Any], key: str) -> float | None:
    return report["models"]["student"][key]  # type: ignore[no-any-return]


_TEACHER = ("teacher",)
_STUDENT, _COMPARED = gauges.student_share, gauges.compared_share
GATES: Mapping[str, Gate] = {
    "accuracy": Gate("accuracy of the student", False, partial(_STUDENT, key="accuracy"), "%"),
    "accuracy_drop": Gate(
        "accuracy lost against the teacher", True, gauges.accuracy_drop, "points", _TEACHER
    ),
    "agreement": Gate(
        "share answered as the teacher does",
        False,
        partial(_COMPARED, key="agreement"),
        "%",
        _TEACHER,
    ),
    "negative_flips": Gate(
        "share right with the teacher, wrong now",
        True,
        partial(_COMPARED, key="negative_flip_rate"),
        "%",
        _TEACHER,
    ),
    "worst_class_drop": Gate(
        "accuracy lost in any one class", True, gauges.worst_class_drop, "points", _TEACHER
    ),
    "gain": Gate("gain over the baseline", False, gauges.gain, "points", needs=("baseline",)),
    "ece": Gate("calibration error", True, gauges.calibration_error, "%"),
    "perplexity": Gate("perplexity of the student, on text", True, gauges.perplexity),
    "perplexity_ratio": Gate(
        "perplexity, student's over teacher's", True, gauges.perplexity_ratio, "×", _TEACHER
    ),
    "p99_ms": Gate("99th percentile of latency", True, _p99, "ms"),
    "speedup": Gate("median latency, teacher's over student's", False, _speedup, "×", _TEACHER),
    "parameters": Gate("parameters", True, partial(_cost, key="parameters")),
    "bytes": Gate("bytes of the weights", True, partial(_cost, key="bytes")),
    "macs": Gate("multiply-accumulates of one answer", True, partial(_cost, key="macs")),
}
"""The gates that every report can be held to; parts of a report bring more, see `gates`."""


def gates() -> dict[str, Gate]:
    """All gates by name: `GATES`, and those of every part that is registered.

    Example:
        >>> set(GATES) < set(gates())
        True
    """
    found: dict[str, Gate] = {}
    for part in full().values():
        found |= part.gates
    return {**found, **GATES}


def home(name: str) -> str | None:
    """The part of a report that a gate's figure is in; None for one that every report has.

    Example:
        >>> home("worst_class_flips"), home("accuracy")
        ('flips', None)
    """
    if name in GATES:
        return None
    return next((key for key, part in full().items() if name in part.gates), None)


def check_gates(asked: Mapping[str, Any]) -> dict[str, Demand]:
    """Refuse gates that do not exist and thresholds that make no sense, before anything runs.

    Shares and their differences lie in -1 to 1 (2 points are 0.02); all others are above 0.

    Args:
        asked: By name, a threshold, or ``{at_most: threshold, by: shown}`` (``at_least`` for a
            gate that points upwards; ``by`` one of ``shown``, ``estimate``, ``not_refuted``).

    Returns:
        What is asked of each.

    Raises:
        RecipeError: One line naming the gate and the nearest that exists.
    """
    known = GATES if all(name in GATES for name in asked) else gates()
    return {name: _checked(name, known, each) for name, each in asked.items()}


def _checked(name: str, known: Mapping[str, Gate], asked: Any) -> Demand:
    if name not in known:
        raise RecipeError(f"there is no gate {name!r}. {suggest(name, known)}")
    gate = known[name]
    demand = Demand.of(name, gate, asked)
    threshold = demand.threshold
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise RecipeError(f"gate {name!r} has the threshold {threshold!r}: give a number.")
    if not math.isfinite(threshold):
        raise RecipeError(
            f"gate {name!r} has the threshold {threshold}: give a finite number, or leave the "
            "gate out."
        )
    if gate.of_shares and not -1 <= threshold <= 1:
        raise RecipeError(
            f"gate {name!r} is a share: {threshold:g} points are {threshold / 100:g}, "
            f"got {threshold:g}."
        )
    if not gate.of_shares and threshold <= 0:
        raise RecipeError(f"gate {name!r} needs a threshold above 0, got {threshold:g}.")
    return demand


def judge(report: Mapping[str, Any], asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ``gates`` of a report: each with its figure, its threshold, and whether it passed.

    Args:
        report: Figures with ``models`` and ``comparison``, and ``parts`` for gates of these.
        asked: By name of the gate, as `check_gates` takes it.
    """
    demands = check_gates(asked)
    known = GATES if all(name in GATES for name in asked) else gates()
    return [_judged(name, known[name], demand, report) for name, demand in demands.items()]


def _judged(name: str, gate: Gate, demand: Demand, report: Mapping[str, Any]) -> dict[str, Any]:
    reading = Reading.of_figure(gate.figure(report), report)
    by = demand.by or ("shown" if reading.sure else "estimate")
    tried, threshold = reading.tried(by, gate.at_most), demand.threshold
    passed = tried is not None and (tried <= threshold if gate.at_most else tried >= threshold)
    found = {
        "name": name,
        "passed": passed,
        "value": reading.mean,
        "low": reading.low,
        "high": reading.high,
        "threshold": threshold,
        "by": by,
        "rule": "at most" if gate.at_most else "at least",
        "meaning": gate.meaning,
        "unit": gate.unit,
    }
    return {**found, "evidence": told(found, reading)}
