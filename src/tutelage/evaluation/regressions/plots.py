"""Pictures of where a student got worse: negative flips by class, drops by slice."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.faces.plots import (
    _ARMS,
    _FAINT,
    _INK,
    _MARKS,
    _WORSE,
    MOST_CLASSES,
    _figure,
    _legend,
    _svg,
)


def flip_rates(rows: Sequence[Mapping[str, Any]]) -> str:
    """Share of each class that became wrong, with ranges, beside that of the student alone.

    Args:
        rows: As `tutelage.evaluation.regressions.damage.damage` returns them; the worst are drawn.
    """
    kept = sorted(rows, key=lambda row: float(row["share"]["mean"]))[-MOST_CLASSES:]
    figure, axes = _figure(5.4, 0.9 + 0.27 * len(kept))
    for place, row in enumerate(kept):
        share = row["share"]
        axes.plot(
            [100 * share["low"], 100 * share["high"]],
            [place, place],
            color=_ARMS["student"],
            linewidth=2,
        )
        axes.plot(
            [100 * share["mean"]],
            [place],
            marker=_MARKS["student"],
            color=_ARMS["student"],
            markersize=7 if row["worse"] else 6,
            markerfacecolor=_ARMS["student"] if row["worse"] else "none",
            linestyle="none",
            label="student" if place == 0 else None,
        )
        if row["baseline"] is not None:
            axes.plot(
                [100 * row["baseline"] / row["examples"]],
                [place],
                marker=_MARKS["baseline"],
                color=_ARMS["baseline"],
                markersize=5.5,
                linestyle="none",
                label="student alone" if place == 0 else None,
            )
    _named(axes, [row["name"] for row in kept])
    axes.set_xlabel("became wrong, % of the examples")
    _legend(axes)
    worst = f"{kept[-1]['name']}, {100 * kept[-1]['share']['mean']:.1f} %"
    return _svg(figure, "flips", f"Negative flips in each class; the highest is {worst}.")


def slice_drops(slices: Sequence[Mapping[str, Any]], overall: float) -> str:
    """Accuracy lost in each slice, with ranges, against what is lost overall."""
    kept = sorted(slices, key=lambda one: float(one["drop"]["mean"]))[-MOST_CLASSES:]
    figure, axes = _figure(5.4, 1.0 + 0.3 * len(kept))
    for place, one in enumerate(kept):
        colour = _WORSE if one["confirmed"] else _FAINT
        drop = one["drop"]
        axes.plot([100 * drop["low"], 100 * drop["high"]], [place, place], color=colour, lw=2)
        axes.plot(
            [100 * drop["mean"]],
            [place],
            marker="o",
            markersize=6,
            color=colour,
            markerfacecolor=colour if one["confirmed"] else "none",
        )
    axes.axvline(0, color=_INK, linewidth=1)
    axes.axvline(100 * overall, color=_FAINT, linewidth=1, linestyle=(0, (4, 2)))
    _named(axes, [one["name"] for one in kept])
    axes.set_xlabel("accuracy lost against the teacher, points")
    worst = f"{kept[-1]['name']}, {100 * kept[-1]['drop']['mean']:.1f} points"
    return _svg(figure, "slices", f"Accuracy lost in each slice; the most in {worst}.")


def _named(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [str(name)[:30] for name in names])
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=7, steps=[1, 2, 5, 10])
