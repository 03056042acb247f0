"""Conditions a student must meet to be shipped, checked against the figures of a report.

A gate fails where its figure is missing: what could not be measured was not met.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.core.errors import RecipeError, suggest
from tutelage.evaluation.gate import Gate


def _student(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda report: report["models"]["student"][key]


def _comparison(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda report: report["comparison"][key]


def _accuracy_drop(report: Mapping[str, Any]) -> float | None:
    change = report["comparison"]["accuracy_change"]
    return None if change is None else -change["mean"]


def _gain(report: Mapping[str, Any]) -> float | None:
    gain = report["comparison"]["gain"]
    return None if gain is None else gain["low"]


def _worst_class_drop(report: Mapping[str, Any]) -> float | None:
    deltas = [row["delta"] for row in report["comparison"]["per_class"] if row["delta"] is not None]
    return -min(deltas) if deltas else None


def _speedup(report: Mapping[str, Any]) -> float | None:
    times = [report["models"][role]["latency_ms"]["p50"] for role in ("teacher", "student")]
    return times[0] / times[1] if times[1] else None


def _p99(report: Mapping[str, Any]) -> float | None:
    return report["models"]["student"]["latency_ms"]["p99"]  # type: ignore[no-any-return]


GATES: Mapping[str, Gate] = {
    "accuracy": Gate("accuracy of the student", False, _student("accuracy"), "%"),
    "accuracy_drop": Gate("accuracy lost against the teacher", True, _accuracy_drop, "points"),
    "agreement": Gate("share answered as the teacher does", False, _comparison("agreement"), "%"),
    "negative_flips": Gate(
        "share right with the teacher, wrong now", True, _comparison("negative_flip_rate"), "%"
    ),
    "worst_class_drop": Gate("accuracy lost in any one class", True, _worst_class_drop, "points"),
    "gain": Gate("lower end of the gain over the baseline", False, _gain, "points"),
    "ece": Gate("calibration error", True, _student("ece"), "%"),
    "p99_ms": Gate("99th percentile of latency", True, _p99, "ms"),
    "speedup": Gate("median latency, teacher's over student's", False, _speedup, "×"),
    "parameters": Gate("parameters", True, _student("parameters")),
    "bytes": Gate("bytes of the weights", True, _student("bytes")),
    "macs": Gate("multiply-accumulates of one answer", True, _student("macs")),
}
"""All gates by name, with their meaning and whether the threshold is the most or the least."""


def check_gates(thresholds: Mapping[str, float]) -> None:
    """Refuse gates that do not exist and thresholds that make no sense, before anything runs.

    Shares and their differences lie in -1 to 1 (2 points are 0.02); all others are above 0.

    Raises:
        RecipeError: One line naming the gate and the nearest that exists.
    """
    for name, threshold in thresholds.items():
        if name not in GATES:
            raise RecipeError(f"there is no gate {name!r}. {suggest(name, GATES)}")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise RecipeError(f"gate {name!r} has the threshold {threshold!r}: give a number.")
        if not math.isfinite(threshold):
            raise RecipeError(
                f"gate {name!r} has the threshold {threshold}: give a finite number, or leave the "
                "gate out."
            )
        if GATES[name].of_shares and not -1 <= threshold <= 1:
            raise RecipeError(
                f"gate {name!r} is a share: {threshold:g} points are {threshold / 100:g}, "
                f"got {threshold:g}."
            )
        if not GATES[name].of_shares and threshold <= 0:
            raise RecipeError(f"gate {name!r} needs a threshold above 0, got {threshold:g}.")


def judge(report: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """The ``gates`` of a report: each with its figure, its threshold, and whether it passed.

    Args:
        report: Figures with ``models`` and ``comparison``.
        thresholds: By name of the gate, see `GATES`.
    """
    check_gates(thresholds)
    judged = []
    for name, threshold in thresholds.items():
        gate = GATES[name]
        found = gate.figure(report)
        value = found["mean"] if isinstance(found, Mapping) else found
        passed = value is not None and (value <= threshold if gate.at_most else value >= threshold)
        judged.append(
            {
                "name": name,
                "passed": passed,
                "value": value,
                "threshold": threshold,
                "rule": "at most" if gate.at_most else "at least",
                "meaning": gate.meaning,
                "unit": gate.unit,
            }
        )
    return judged
