"""Reliability diagrams, one a model: before and after its temperature, and where examples lie."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.faces.plots import (
    _ARMS,
    _FAINT,
    _GRID,
    _INK,
    _MARKS,
    _figure,
    _legend,
    _svg,
)
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.roles import NAMES

_LEAST = 5
"""A bin of fewer examples is noise, not calibration."""


def reliability_of(role: str, model: Mapping[str, Any]) -> str:
    """Confidence against accuracy of one model, with intervals, and how many examples say so."""
    figure, axes = _figure(5.4, 3.6)
    colour = _ARMS.get(role, _INK)
    axes.plot([0, 100], [0, 100], color=_FAINT, linewidth=1, linestyle=(0, (2, 2)))
    bins = model["reliability"]
    most, width = max(bins["count"]), 100 / len(bins["count"])
    for place, count in enumerate(bins["count"]):
        # The share of the examples, as a bar at the foot: a fifth of the height for the fullest.
        axes.bar((place + 0.5) * width, 20 * count / most, width * 0.92, color=_GRID, zorder=0)
    for sure, hits, count in _kept(bins):
        found = wilson(round(hits * count), count)
        axes.plot([100 * sure] * 2, [100 * found.low, 100 * found.high], color=colour, linewidth=1)
    _line(axes, bins, colour, _MARKS.get(role, "D"), "as it is", "-", True)
    if model["temperature"] is not None and not model["temperature"]["limit"]:
        after = model["temperature"]["reliability"]
        told = f"divided by {model['temperature']['value']:.2f}"
        _line(axes, after, _FAINT, "v", told, (0, (4, 2)), False)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    axes.set_xlabel("how sure it was, %")
    axes.set_ylabel("how often it was right, %")
    _legend(axes)
    return _svg(figure, f"calibration-{role}", f"Confidence against accuracy of the {NAMES[role]}.")


def _line(
    axes: Any, bins: Mapping[str, Any], colour: str, mark: str, label: str, stroke: Any, full: bool
) -> None:
    kept = _kept(bins)
    axes.plot(
        [100 * sure for sure, _, _ in kept],
        [100 * hits for _, hits, _ in kept],
        color=colour,
        marker=mark,
        markersize=5,
        markerfacecolor=colour if full else "none",
        linestyle=stroke,
        linewidth=1.4,
        label=label,
    )


def _kept(bins: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    rows = zip(bins["confidence"], bins["accuracy"], bins["count"], strict=True)
    return [row for row in rows if row[2] >= _LEAST]
