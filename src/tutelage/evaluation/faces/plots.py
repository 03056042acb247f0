"""The report's pictures, as SVG text that follows the page's colours in light and dark."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from tutelage.evaluation.wording import ROLES, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stand for the page's own: after drawing, each is replaced by a variable of its
# style sheet, so one picture serves both themes.
_INK, _FAINT, _GRID = "#010203", "#040506", "#070809"
_ARMS = {"teacher": "#0a0b0c", "student": "#0d0e0f", "baseline": "#101112"}
_WORSE, _BETTER = "#131415", "#161718"
_VARIABLES = {
    _INK: "ink",
    _FAINT: "faint",
    _GRID: "grid",
    _WORSE: "worse",
    _BETTER: "better",
    **{colour: arm for arm, colour in _ARMS.items()},
}
_MARKS = {"teacher": "s", "student": "o", "baseline": "^"}
_STROKES: Mapping[str, Any] = {"teacher": (0, (5, 2)), "student": "-", "baseline": (0, (1, 1.5))}
MOST_CLASSES = 24
_NOT_TERMS = {"step", "epoch", "validation_accuracy", "lr", "learning_rate", "seconds", "examples"}


def size_against_accuracy(models: Mapping[str, Any]) -> str:
    """Parameters (on a logarithmic scale) against accuracy, with intervals."""
    figure, axes = _figure(5.4, 3.1)
    shown = _measured(models)
    for role, model in shown.items():
        interval = model["accuracy_interval"]
        reach = [
            [100 * (interval["mean"] - interval["low"])],
            [100 * (interval["high"] - interval["mean"])],
        ]
        axes.errorbar(
            [model["parameters"]],
            [100 * model["accuracy"]],
            yerr=reach,
            color=_ARMS[role],
            marker=_MARKS[role],
            markersize=8,
            capsize=3,
            label=ROLES[role],
            linestyle="none",
        )
    axes.set_xscale("log")
    sizes = [model["parameters"] for model in shown.values()]
    axes.set_xlim(min(sizes) / 2.5, max(sizes) * 2.5)
    axes.xaxis.set_major_formatter(_magnitude)
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("parameters")
    axes.set_ylabel("accuracy, %")
    _legend(axes)
    return _svg(figure, "size", "Parameters against accuracy of each model.")


def class_changes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Student minus teacher for each class, with intervals; the most changed where many."""
    known = [row for row in rows if row["delta"] is not None]
    kept = sorted(known, key=lambda row: abs(row["delta"]))[-MOST_CLASSES:]
    kept.sort(key=lambda row: -row["delta"])
    figure, axes = _figure(5.4, 0.8 + 0.27 * len(kept))
    for place, row in enumerate(reversed(kept)):
        colour = (_WORSE if row["delta"] < 0 else _BETTER) if row["clear"] else _FAINT
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(
            [100 * row["delta"]],
            [place],
            marker="o",
            color=colour,
            markersize=6,
            markerfacecolor=colour if row["clear"] else "none",
        )
    axes.axvline(0, color=_INK, linewidth=1)
    axes.set_yticks(range(len(kept)), [str(row["class"])[:22] for row in reversed(kept)])
    axes.set_ylim(-0.7, len(kept) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=7, steps=[1, 2, 5, 10])
    axes.set_xlabel("student minus teacher, points")
    worst = f"{kept[-1]['class']}, {points(kept[-1]['delta'])}"
    return _svg(
        figure,
        "classes",
        f"Change of accuracy in each class; the lowest is {worst}.",
    )


def reliability_diagram(models: Mapping[str, Any]) -> str:
    """Confidence against accuracy for every model; on the diagonal, confidence can be trusted."""
    figure, axes = _figure(5.4, 4.2)
    axes.plot([0, 100], [0, 100], color=_FAINT, linewidth=1, linestyle=(0, (2, 2)))
    for role, model in _measured(models).items():
        bins = model["reliability"]
        # A bin of a handful of examples is noise, not calibration.
        least = max(5, 0.002 * sum(bins["count"]))
        kept = [
            (100 * sure, 100 * hits)
            for sure, hits, count in zip(
                bins["confidence"], bins["accuracy"], bins["count"], strict=True
            )
            if count >= least
        ]
        axes.plot(
            [sure for sure, _ in kept],
            [hits for _, hits in kept],
            color=_ARMS[role],
            marker=_MARKS[role],
            linestyle=_STROKES[role],
            markersize=4.5,
            label=ROLES[role],
        )
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    axes.set_xlabel("how sure the model was, %")
    axes.set_ylabel("how often it was right, %")
    _legend(axes)
    return _svg(figure, "reliability", "Confidence against accuracy of each model.")


def training_curves(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, str]:
    """Validation accuracy of all arms, and the student's terms: pictures by caption."""
    pictures = {}
    # Arms may learn from sets of different size: steps are the same work in all of them.
    axis = "step" if all("step" in row for rows in curves.values() for row in rows) else "epoch"
    known = {arm: rows for arm, rows in curves.items() if arm in _ARMS}
    accuracy = {
        arm: kept
        for arm, rows in known.items()
        if (kept := _series(rows, axis, "validation_accuracy"))
    }
    if accuracy:
        figure, axes = _figure(5.4, 3.0)
        for arm, (x, y) in accuracy.items():
            axes.plot(
                x,
                [100 * value for value in y],
                color=_ARMS[arm],
                linestyle=_STROKES[arm],
                marker=_MARKS[arm] if len(x) < 30 else "",
                markersize=4,
                label=ROLES[arm],
            )
        axes.set_xlabel(axis)
        axes.set_ylabel("validation accuracy, %")
        _legend(axes)
        pictures["Accuracy on the validation split while learning"] = _svg(
            figure, "validation", "Validation accuracy of each arm while learning."
        )
    rows = known.get("student", ())
    terms = sorted({key for row in rows for key in row} - _NOT_TERMS)
    drawn = {term: kept for term in terms if (kept := _series(rows, axis, term))}
    if drawn:
        figure, axes = _figure(5.4, 2.6)
        for (term, (x, y)), stroke in zip(drawn.items(), _cycle(len(drawn)), strict=True):
            axes.plot(x, y, color=_ARMS["student"], linestyle=stroke, linewidth=1.4, label=term)
        axes.set_xlabel(axis)
        axes.set_ylabel("loss")
        _legend(axes)
        pictures["What the student's learning lowered"] = _svg(
            figure, "terms", "Terms of the student's loss while learning."
        )
    return pictures


def _series(
    rows: Sequence[Mapping[str, Any]], axis: str, key: str
) -> tuple[list[float], list[float]] | None:
    numbers = (int, float)
    kept = [
        (row[axis], row[key])
        for row in rows
        if isinstance(row.get(key), numbers) and isinstance(row.get(axis), numbers)
    ]
    return ([x for x, _ in kept], [y for _, y in kept]) if kept else None


def _cycle(many: int) -> list[Any]:
    strokes: list[Any] = ["-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2))]
    return [strokes[i % len(strokes)] for i in range(many)]


def _measured(models: Mapping[str, Any]) -> dict[str, Any]:
    return {
        role: models[role]
        for role in _ARMS
        if models.get(role) is not None and models[role]["accuracy"] is not None
    }


def _magnitude(value: float, position: object) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:g} {letter}"
    return f"{value:g}"


def _figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    """An empty picture in the page's ink; no pyplot, so nothing global is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)
    axes.tick_params(which="both", colors=_FAINT, labelcolor=_INK, labelsize=10.5)
    axes.xaxis.label.set(color=_INK, size=10.5)
    axes.yaxis.label.set(color=_INK, size=10.5)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: "Axes") -> None:
    axes.legend(
        frameon=False,
        fontsize=10.5,
        labelcolor=_INK,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        handlelength=2.2,
        columnspacing=1.4,
        borderaxespad=0.2,
    )


def _svg(figure: "Figure", name: str, description: str) -> str:
    """The picture as an ``<svg>`` element to put into a page: no outside links, unique ids."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    head = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1 :]
    view = head.group() if head else ""
    return f'<svg {view} role="img" aria-label="{escape(description)}">{body}'
