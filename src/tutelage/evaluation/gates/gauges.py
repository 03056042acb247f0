"""The figures that gates read from a report, each with the interval that a gate is judged by."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.seeds import generator
from tutelage.evaluation.intervals import wilson

Report = Mapping[str, Any]
Gauge = dict[str, Any]
_RESAMPLES = 1000


def student_share(report: Report, key: str) -> Gauge | float | None:
    """A share of the student's answers with Wilson's interval: ``accuracy``."""
    return share(report, report["models"]["student"][key])


def compared_share(report: Report, key: str) -> Gauge | float | None:
    """A share that compares student and teacher, with Wilson's interval: ``agreement``."""
    return share(report, report["comparison"][key])


def share(report: Report, value: float | None) -> Gauge | float | None:
    """A share of the test examples with Wilson's interval; alone where their number is unknown."""
    total = tested(report)
    if value is None or not total:
        return value
    found = wilson(round(value * total), total, level=level_of(report))
    return {**found.as_dict(), "examples": total}


def accuracy_drop(report: Report) -> Gauge | None:
    """Accuracy lost against the teacher: Newcombe's paired interval, turned round."""
    change = report["comparison"]["accuracy_change"]
    if change is None:
        return None
    return {**_turned(change), "level": change["level"], "examples": tested(report)}


def gain(report: Report) -> Gauge | None:
    """Gain over the baseline: over seeds where there are several, else over examples."""
    found = report["comparison"]["gain"]
    if found is None:
        return None
    seeds = found.get("seeds", 1)
    many = {"examples": seeds, "of": "seeds"} if seeds > 1 else {"examples": tested(report)}
    return {**found, **many}


def perplexity(report: Report) -> Gauge | None:
    """The student's perplexity with its interval; only a report on text has one."""
    found = report["models"]["student"].get("interval")
    return None if found is None else _raised(found)


def perplexity_ratio(report: Report) -> Gauge | None:
    """The student's perplexity over the teacher's, from the paired change of nats a token."""
    found = report["comparison"].get("nll_change")
    return None if found is None else _raised(found)


def _raised(found: Gauge) -> Gauge:
    ends = {key: math.exp(min(found[key], 700.0)) for key in ("mean", "low", "high")}
    return {**found, **ends}


def worst_class_drop(report: Report) -> Gauge | None:
    """The largest loss of accuracy in any one class.

    Lower end: the largest of the classes' lower ends, each at ``1 - (1 - level) / classes``
    (Bonferroni), for the class that looks worst was picked among all. Upper end: the largest of
    the upper ends at the plain level; no allowance is needed there, since the class that is truly
    the worst is one and the same whatever was measured (an intersection-union test; Berger,
    Technometrics 1982).
    """
    rows = [row for row in report["comparison"]["per_class"] if row["delta"] is not None]
    if not rows:
        return None
    level = level_of(report)
    outer = max(rows, key=lambda row: -row["low"])
    lows = [-_widened(row, level, 1 - (1 - level) / len(rows)) for row in rows]
    return {
        "mean": max(-row["delta"] for row in rows),
        "low": max(lows),
        "high": -outer["low"],
        "level": level,
        "method": "Newcombe paired score, the worst of all classes",
        "examples": outer["examples"],
        "of": f"test examples of class {outer['class']}",
    }


def calibration_error(report: Report) -> Gauge | float | None:
    """The student's ECE with a bootstrap interval, from the bins that the report holds."""
    student = report["models"]["student"]
    bins = student.get("reliability")
    if student["ece"] is None or bins is None:
        return student["ece"]  # type: ignore[no-any-return]
    level = level_of(report)
    low, high = binned_error_interval(
        bins["confidence"],
        bins["accuracy"],
        bins["count"],
        seed=int(report.get("seed", 0)),
        level=level,
    )
    return {
        "mean": student["ece"],
        "low": low,
        "high": high,
        "level": level,
        "method": "bootstrap over examples within bins",
        "examples": sum(bins["count"]),
    }


def binned_error_interval(
    confidence: Sequence[float],
    accuracy: Sequence[float],
    count: Sequence[int],
    *,
    seed: int = 0,
    resamples: int = _RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float]:
    """An interval of the expected calibration error, from the bins of a reliability diagram.

    In every bin as many right answers as there were are drawn anew (a binomial; the bins keep
    their sizes and mean confidences), and the ends are percentiles of the resampled errors.
    Chance alone makes an ECE larger than it is, and the resampled ones once more: the upper end
    errs on the side of caution. The lower end is mirrored, ``2 · ECE - upper``, and 0 wherever a
    model whose confidence is right in every bin would show as much by chance.

    Args:
        confidence: Mean confidence of each bin, ``(B,)``.
        accuracy: Share of right answers of each bin, ``(B,)``.
        count: Examples of each bin, ``(B,)``.
        seed: Of the resampling.
        resamples: How many.
        level: Confidence.

    Example:
        >>> low, high = binned_error_interval([0.9, 0.6], [0.7, 0.6], [500, 500])
        >>> low < 0.1 < high
        True

    Paper: Efron, Annals of Statistics 1979.
    """
    sure = torch.tensor(confidence, dtype=torch.float64).clamp(0, 1)
    share = torch.tensor(accuracy, dtype=torch.float64).clamp(0, 1)
    many = torch.tensor(count, dtype=torch.float64)
    dice = generator(seed, "calibration error")

    def errors(chance: Tensor) -> Tensor:
        right = torch.binomial(
            many.expand(resamples, -1), chance.expand(resamples, -1), generator=dice
        )
        return (right - sure * many).abs().sum(-1) / many.sum()

    found = float(((share - sure).abs() * many).sum() / many.sum())
    outside = (1 - level) / 2
    high = float(errors(share).quantile(1 - outside))
    if found <= float(errors(sure).quantile(1 - outside)):
        return 0.0, max(high, found)
    return max(0.0, min(found, 2 * found - high)), max(high, found)


def tested(report: Report) -> int:
    """How many test examples a report rests on; 0 where it does not say."""
    return int(report.get("data", {}).get("test") or 0)


def level_of(report: Report) -> float:
    """Confidence of the report's intervals."""
    for model in report["models"].values():
        if model is not None and "accuracy_interval" in model:
            return float(model["accuracy_interval"]["level"])
    return 0.95


def _turned(change: Mapping[str, Any]) -> Gauge:
    """A gain as a loss."""
    return {"mean": -change["mean"], "low": -change["high"], "high": -change["low"]}


def _widened(row: Mapping[str, Any], level: float, wanted: float) -> float:
    """The upper end of a class's change at another level than the report gives it at.

    Newcombe's upper end is ``d + sqrt(a² - 2 r a b + b²)``, with a and b from Wilson's ends of the
    two accuracies and r the correlation of the pairs, which is solved for at the known level.
    """
    student, teacher, total = row["student"], row["teacher"], row["examples"]

    def reaches(at: float) -> tuple[float, float]:
        up = wilson(round(student * total), total, level=at).high - student
        down = teacher - wilson(round(teacher * total), total, level=at).low
        return up, down

    a, b = reaches(level)
    known = row["high"] - row["delta"]
    correlation = (a * a + b * b - known * known) / (2 * a * b) if a * b > 0 else 0.0
    a, b = reaches(wanted)
    inner = a * a - 2 * min(1.0, max(-1.0, correlation)) * a * b + b * b
    return float(row["delta"] + math.sqrt(max(inner, 0.0)))
