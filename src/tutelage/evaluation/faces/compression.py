"""The section on a student's smaller files: what each costs and knows, and which one is shipped."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.faces.plots import _BETTER, _FAINT, _INK, _figure, _magnitude, _svg
from tutelage.evaluation.wording import milliseconds, percent, points, size, span

_HEADS = ("File", "Made by", "Bytes", "p50", "p99", "Accuracy", "Change, points", "")
_BUSY = 10  # times the usual call: not the file's own doing
_DISTURBED = (
    "Some slow calls took more than ten times the usual one: this machine had other work, and "
    "p99 says more of that than of the files. Measure again on an idle one before trusting it."
)
_ABOVE = 6  # of a number over its mark, in points of the drawing
_SHOWN = 0.1  # accuracy below the best that the picture has room for


def compression(found: Mapping[str, Any]) -> list[Block]:
    """What the section shows, from the figures alone.

    Args:
        found: ``compression`` of ``report.json``.
    """
    numbered = enumerate(found["points"], start=1)
    rows = tuple(_row(number, point, found["chosen"]) for number, point in numbered)
    caption = f"Measured on {found['validation']:,} validation examples"
    blocks: list[Block] = [
        Words(_told(found)),
        Table(_HEADS, rows, caption),
        Picture(
            front(found, "bytes"),
            "Accuracy over bytes, by the numbers of the table: up and left is better. Filled "
            "marks are on the front: no other file is at least as good in everything. A triangle "
            "lies far below.",
        ),
        Picture(front(found, "p99"), "Accuracy over the time of a slow call (p99)."),
    ]
    if any(p["latency_ms"]["p99"] > _BUSY * p["latency_ms"]["p50"] for p in found["points"]):
        blocks.append(Words(_DISTURBED))
    if found["test"] is not None:
        blocks.append(Words(_tested(found["chosen"], found["test"])))
    blocks += [Words(f"{name} was left out: {why}") for name, why in found["failed"].items()]
    return blocks


def front(found: Mapping[str, Any], cost: str) -> str:
    """Accuracy with its interval over ``bytes`` or ``p99``; the budget's limit is a line."""
    figure, axes = _figure(5.4, 3.4)
    floor = max(point["accuracy"]["mean"] for point in found["points"]) - _SHOWN
    for number, point in enumerate(found["points"], start=1):
        x = point["bytes"] if cost == "bytes" else point["latency_ms"]["p99"]
        share, chosen = point["accuracy"], point["name"] == found["chosen"]
        colour = _BETTER if chosen else _FAINT if point["dominated"] else _INK
        low = share["mean"] < floor
        y = 100 * max(share["mean"], floor)
        reach = [[100 * (share["mean"] - share["low"])], [100 * (share["high"] - share["mean"])]]
        axes.errorbar(
            [x],
            [y],
            yerr=None if low else reach,
            color=colour,
            marker="v" if low else "o",
            markersize=9 if chosen else 6,
            markerfacecolor="none" if point["dominated"] else colour,
            elinewidth=0.8,
            linestyle="none",
        )
        axes.annotate(
            str(number),
            (x, y),
            xytext=(5, _ABOVE),
            textcoords="offset points",
            color=colour,
            fontsize=8.5,
        )
    limit = found["budget"].get("bytes" if cost == "bytes" else "p99_ms")
    if limit is not None:
        axes.axvline(limit, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    if cost == "p99":
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter(_magnitude)
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("bytes of the file" if cost == "bytes" else "p99 of one answer, ms")
    axes.set_ylabel("accuracy on validation, %")
    return _svg(figure, f"front-{cost}", f"Accuracy of each file over its {cost}.")


def _row(number: int, point: Mapping[str, Any], chosen: str | None) -> tuple[str, ...]:
    share, drop, times = point["accuracy"], point["accuracy_drop"], point["latency_ms"]
    made = ", ".join(map(_stage, point["stages"])) or "as it was taught"
    change = {"mean": -drop["mean"], "low": -drop["high"], "high": -drop["low"]}
    return (
        f"{number}. {point['name']}",
        made,
        f"{point['bytes']:,}",
        milliseconds(times["p50"]),
        milliseconds(times["p99"]),
        percent(share["mean"], 2),
        f"{points(change['mean'])} ({span(change)})" if point["stages"] else "–",
        "shipped" if point["name"] == chosen else "dominated" if point["dominated"] else "",
    )


def _stage(stage: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in stage["options"].items())
    healed = " and healed" if stage.get("healed") else ""
    return f"{stage['stage']}{f' ({options})' if options else ''}{healed}"


def _told(found: Mapping[str, Any]) -> str:
    chosen, evidence = found["chosen"], found["gate"]["evidence"]
    if chosen is None:
        return f"No file is shipped: {evidence}."
    made = next(point for point in found["points"] if point["name"] == chosen)
    return f"The file {chosen} ({size(made['bytes'])}) is shipped: {evidence}."


def _tested(name: str, test: Mapping[str, Any]) -> str:
    """How the chosen file did on the test split."""
    share = test["accuracy"]
    told = (
        f"On {test['examples']:,} test examples, which it was asked once after the choice, {name} "
        f"reaches {percent(share['mean'], 2)} ({percent(share['low'])} to "
        f"{percent(share['high'])}). "
    )
    for role, other in test["against"].items():
        change = other["accuracy_change"]
        told += (
            f"Against the {role}: {points(change['mean'])} points ({span(change)}), "
            f"{percent(other['negative_flip_rate'], 2)} newly wrong, "
            f"{percent(other['agreement'])} of the answers the same. "
        )
    return told.strip()
