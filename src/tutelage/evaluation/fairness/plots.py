"""Pictures of groups: accuracy of each under every model, and gaps against temperature."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.faces import plots
from tutelage.evaluation.wording import ROLES

MOST_GROUPS = 16
_WORDS = {
    "accuracy": ("accuracy", "o", "-"),
    "worst": ("accuracy of the worst group", "v", (0, (1, 1.5))),
    "selection": ("demographic parity difference", "s", (0, (5, 2))),
    "odds": ("equalised odds difference", "D", (0, (6, 2, 1, 2))),
}


def group_accuracies(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Accuracy of each model in each group, with intervals; the largest groups where many.

    Args:
        rows: With ``name``, ``examples`` and ``accuracy``: by role, an interval.
        name: Of the way of grouping, for ids that differ on a page.
    """
    kept = sorted(rows, key=lambda row: -row["examples"])[:MOST_GROUPS][::-1]
    roles = [role for role in ROLES if role in kept[0]["accuracy"]]
    figure, axes = plots._figure(5.4, 0.9 + (0.14 + 0.16 * len(roles)) * len(kept))
    for order, role in enumerate(roles):
        places = [place + 0.2 * ((len(roles) - 1) / 2 - order) for place in range(len(kept))]
        found = [row["accuracy"][role] for row in kept]
        axes.errorbar(
            [100 * one["mean"] for one in found],
            places,
            xerr=[
                [100 * (one["mean"] - one["low"]) for one in found],
                [100 * (one["high"] - one["mean"]) for one in found],
            ],
            color=plots._ARMS[role],
            marker=plots._MARKS[role],
            markersize=6,
            capsize=2,
            linestyle="none",
            label=ROLES[role],
        )
    axes.set_yticks(range(len(kept)), [str(row["name"])[:22] for row in kept])
    axes.set_ylim(-0.6, len(kept) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("right answers, %")
    plots._legend(axes)
    legend = axes.get_legend()
    assert legend is not None
    legend.set(loc="lower right")  # long names of groups leave little room above the axes
    legend.set_bbox_to_anchor((1, 1.0), axes.transAxes)
    worst = min(kept, key=lambda row: row["accuracy"]["student"]["mean"])
    told = f"Accuracy by {name} of each model; the student is lowest in {worst['name']}."
    return plots._svg(figure, f"groups-{_id(name)}", told)


def temperature_curves(
    curves: Mapping[str, Sequence[Mapping[str, float]]], name: str, *, page: bool = True
) -> str:
    """Accuracy, worst group and gaps of students against the temperature they were taught at.

    Args:
        curves: By measure (``accuracy``, ``worst``, ``selection``, ``odds``), points with
            ``temperature`` and ``mean``, ``low``, ``high`` over seeds.
        name: Of the way of grouping.
        page: For a page that has the report's style sheet; else with colours of its own.
    """
    figure, axes = plots._figure(5.6, 3.4)
    colours = [plots._ARMS["teacher"], plots._ARMS["baseline"], plots._ARMS["student"]]
    shown = {measure: curves[measure] for measure in _WORDS if measure in curves}
    for order, (measure, points) in enumerate(shown.items()):
        words, mark, stroke = _WORDS[measure]
        axes.errorbar(
            [point["temperature"] for point in points],
            [100 * point["mean"] for point in points],
            yerr=[
                [100 * (point["mean"] - point["low"]) for point in points],
                [100 * (point["high"] - point["mean"]) for point in points],
            ],
            color=colours[order % 3],
            marker=mark,
            linestyle=stroke,
            markersize=5,
            capsize=2,
            label=words,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("temperature of teaching")
    axes.set_ylabel("% of examples, or points")
    axes.legend(
        frameon=False,
        fontsize=9.5,
        labelcolor=plots._INK,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=2,
    )
    svg = plots._svg(figure, f"temperature-{_id(name)}", f"Gaps by {name} against temperature.")
    return svg if page else _alone(svg)


def _alone(svg: str) -> str:
    """The same picture as a file of its own, readable on white."""
    light = {
        "ink": "#1d2129",
        "faint": "#667080",
        "grid": "#e4e2dd",
        "teacher": "#3557b7",
        "student": "#c2570c",
        "baseline": "#5d6b67",
        "font": "sans-serif",
    }
    for variable, value in light.items():
        svg = svg.replace(f"var(--{variable})", value)
    back = '<rect width="100%" height="100%" fill="#ffffff"/>'
    head, body = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{back}{body}'


def _id(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
