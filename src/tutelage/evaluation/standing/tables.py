"""Tables of how often several models are right: what the accuracy part shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Table, Words
from tutelage.evaluation.wording import NAMES, percent, points, span

_MEASURES = {"macro": "Mean over classes", "worst_class": "Worst class"}


def models_table(figures: Mapping[str, Any]) -> Table:
    """All models with all shares of right answers."""
    roles = list(figures["top"]["1"])
    lines = {
        ("Accuracy" if k == "1" else f"Among its likeliest {k}"): found
        for k, found in figures["top"].items()
    }
    lines |= {
        _MEASURES["macro"]: figures["macro"],
        _MEASURES["worst_class"]: figures["worst_class"],
    }
    rows = [
        (name, *(f"{percent(found[r]['mean'])} ({between(found[r])})" for r in roles))
        for name, found in lines.items()
    ]
    heads = ("", *(NAMES[role].capitalize() for role in roles))
    return Table(
        heads,
        tuple(rows),
        f"Shares of right answers; in brackets, {100 * figures['level']:g} % intervals",
    )


def tests_table(figures: Mapping[str, Any]) -> list[Block]:
    """The student against every other model on the same examples."""
    if not figures["tests"]:
        return []
    rows = tuple(
        (
            f"{NAMES[test['against']].capitalize()}, "
            + ("accuracy" if test["k"] == 1 else f"likeliest {test['k']}"),
            f"{points(test['mean'])}",
            span(test["bootstrap"]),
            f"{test['only_first']:,} : {test['only_second']:,}",
            chance(test["p"]),
        )
        for test in figures["tests"]
    )
    told = (
        "Both models answer the same examples, so only those count that one of them alone gets "
        "right; p is the chance of a split at least this uneven between two equally good models."
    )
    heads = ("Student against", "Points", "Bootstrap", "Only student : only other", "McNemar's p")
    return [Words(told), Table(heads, rows, "Paired tests")]


def seeds_table(figures: Mapping[str, Any]) -> list[Block]:
    """Student and baseline over all seeds."""
    seeds = figures["seeds"]
    if not seeds:
        return []
    rows = []
    for key in next(iter(seeds.values())):
        name = _MEASURES.get(
            key, "Accuracy" if key == "top_1" else f"Among its likeliest {key[4:]}"
        )
        cells = [
            f"{percent(seeds[role][key]['mean'])} ± {_deviation(seeds[role][key])}"
            if role in seeds
            else "–"
            for role in ("student", "baseline")
        ]
        lead = seeds.get("lead", {}).get(key)
        told = "–" if lead is None else f"{points(lead['mean'])} ({span(lead)})"
        rows.append((name, *cells, told))
    heads = ("", "Student", "Student alone", "Difference, with Student's t interval")
    return [Table(heads, tuple(rows), "Over all seeds: mean ± standard deviation")]


def rows_table(
    rows: Sequence[Mapping[str, Any]],
    caption: str,
    against: str | None,
    figures: Mapping[str, Any],
    *,
    folded: bool = False,
) -> Table:
    """Subsets of the examples: every model in each, and the student's change."""
    roles = list(figures["top"]["1"])
    compared = against in roles
    heads = ["", "Examples", *(NAMES[role].capitalize() for role in roles)]
    heads += [f"Student − {NAMES[against or '']}"] if compared else []
    lines = []
    for row in rows:
        cells = [f"{percent(row[r]['mean'])} ({between(row[r])})" for r in roles]
        if compared:
            mark = " ▲" if row["clear"] else ""
            cells.append(f"{points(row['change']['mean'])} ({span(row['change'])}){mark}")
        lines.append((row["name"], f"{row['examples']:,}", *cells))
    beyond = " (▲: beyond chance after allowing for all rows)" if compared else ""
    return Table(tuple(heads), tuple(lines), f"{caption}{beyond}", folded)


def between(found: Mapping[str, float]) -> str:
    """The ends of a share, in percent."""
    return f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"


def _deviation(found: Mapping[str, float]) -> str:
    return f"{100 * found['deviation']:.1f}"


def chance(p: float) -> str:
    """A probability that nobody takes for exact."""
    return "below 0.00001" if p < 1e-5 else f"{p:.2g}"
