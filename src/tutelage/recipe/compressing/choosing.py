"""Which file of a sweep is shipped: within the budget, on validation alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.wording import listing, milliseconds, points
from tutelage.recipe.compressing.measuring import figure
from tutelage.recipe.sections import Budget, Compress

Point = Mapping[str, Any]
_ONE_POINT = 0.01  # an accuracy beyond its limit counts in shares of this at least
_MEANINGS = {
    "bytes": ("bytes of", ""),
    "p99_ms": ("99th percentile of latency of", "ms"),
    "accuracy_drop": ("accuracy lost on validation by", "points"),
}


def limits_of(budget: Budget) -> dict[str, float]:
    """The limits that there are, by name."""
    return {name: float(limit) for name, limit in budget if limit is not None}


def preferred(compress: Compress) -> str:
    """What decides among files within the budget.

    Example:
        >>> preferred(Compress(ways={}, budget=Budget(bytes=1000, accuracy_drop=0.01)))
        'accuracy'
        >>> preferred(Compress(ways={}, budget=Budget(accuracy_drop=0.01)))
        'bytes'
    """
    if compress.prefer is not None:
        return compress.prefer
    limits = limits_of(compress.budget)
    return "accuracy" if "bytes" in limits or "p99_ms" in limits else "bytes"


def beyond(point: Point, limits: Mapping[str, float]) -> dict[str, float]:
    """How far a point is beyond each limit, as a share of it; below 0 where it is within.

    Of accuracy in shares of the limit or of one point, whichever is more.
    """
    found = {}
    for name, limit in limits.items():
        scale = max(limit, _ONE_POINT) if name == "accuracy_drop" else limit
        found[name] = (figure(point, name) - limit) / scale
    return found


def within(point: Point, limits: Mapping[str, float]) -> bool:
    """Whether a point keeps every limit."""
    return all(figure(point, name) <= limit for name, limit in limits.items())


def best(found: Sequence[Point], limits: Mapping[str, float], prefer: str) -> str | None:
    """The name of the file to ship; None where none is within the limits."""
    candidates = [point for point in found if within(point, limits)]
    order = [prefer, *(name for name in ("accuracy", "bytes", "p99_ms") if name != prefer)]
    ranked = sorted(candidates, key=lambda point: [_rank(point, name) for name in order])
    return str(ranked[0]["name"]) if ranked else None


def nearest(found: Sequence[Point], limits: Mapping[str, float]) -> Point:
    """The point that breaks fewest limits, and the worst of them by least."""

    def how_far(point: Point) -> tuple[int, float]:
        over = beyond(point, limits)
        return sum(each > 0 for each in over.values()), max(over.values())

    return min(found, key=how_far)


def gate(found: Sequence[Point], limits: Mapping[str, float], prefer: str) -> dict[str, Any]:
    """The gate ``budget`` of the report: the limit that the chosen file comes nearest to.

    Where no file is within the budget, the limit that the nearest candidate misses by most.
    """
    name = best(found, limits, prefer)
    point = next((p for p in found if p["name"] == name), None) or nearest(found, limits)
    over = beyond(point, limits)
    limit = max(over, key=lambda each: over[each])
    interval = point["accuracy_drop"] if limit == "accuracy_drop" else {}
    meaning, unit = _MEANINGS[limit]
    return {
        "name": "budget",
        "passed": name is not None,
        "value": figure(point, limit),
        "low": interval.get("low"),
        "high": interval.get("high"),
        "threshold": limits[limit],
        "by": "estimate",
        "rule": "at most",
        "meaning": f"{meaning} the file {point['name']}",
        "unit": unit,
        "evidence": _evidence(found, point, limits, prefer, name is not None),
    }


def told(name: str, value: float) -> str:
    """A figure or a limit with its unit.

    Example:
        >>> told("bytes", 60000), told("p99_ms", 0.5), told("accuracy_drop", 0.005)
        ('60,000 bytes', 'p99 0.500 ms', '0.5 points lost')
    """
    if name == "bytes":
        return f"{value:,.0f} bytes"
    if name == "p99_ms":
        return f"p99 {milliseconds(value)}"
    return f"{points(value, sign=False)} points lost"


def _evidence(
    found: Sequence[Point], point: Point, limits: Mapping[str, float], prefer: str, met: bool
) -> str:
    asked = listing([told(name, limit) for name, limit in limits.items()])
    reached = listing([told(name, figure(point, name)) for name in limits])
    many = f"{len(found)} files"
    if met:
        by = prefer.replace("_ms", "")
        return (
            f"chosen by {by} on validation among {many}, judged by the figures alone: it has "
            f"{reached}, and at most {asked} are allowed"
        )
    return (
        f"none of {many} is within the budget (at most {asked}), and nothing was chosen; the "
        f"nearest is {point['name']} with {reached}"
    )


def _rank(point: Point, name: str) -> float:
    value = figure(point, name)
    return -value if name == "accuracy" else value
