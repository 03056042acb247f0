"""The tables of the part ``calibration``, from its figures alone."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Table, Words
from tutelage.evaluation.roles import NAMES
from tutelage.evaluation.wording import listing, percent, points, span


def error_table(figures: Mapping[str, Any]) -> Block:
    """Every error of every model."""
    shares = {
        "Sure, on average": lambda m: percent(m["confidence"], 2),
        "Right": lambda m: percent(m["accuracy"], 2),
        "Sure minus right, points": lambda m: f"{points(m['gap']['mean'])} ({span(m['gap'])})",
        "Calibration error (ECE)": lambda m: percent(m["ece"], 2),
        "ECE of an honest model, by chance": lambda m: percent(m["chance"]["expected"], 2),
        "Chance of that, p": lambda m: f"{m['chance']['p']:.3f}",
        "ECE, bins of equal mass": lambda m: percent(m["ece_equal_mass"], 2),
        "Root mean square error, debiased": lambda m: percent(m["debiased_rms"], 2),
        "Classwise ECE": lambda m: percent(m["classwise_ece"], 2),
        "Largest error of a bin": lambda m: percent(m["max_error"]),
        "NLL, nats": lambda m: _number(m["nll"]),
        "Brier score": lambda m: _number(m["brier"]),
        "– cost of dishonesty (reliability)": lambda m: _number(m["brier_parts"]["reliability"]),
        "– gain by telling apart (resolution)": lambda m: _number(m["brier_parts"]["resolution"]),
        "– of the data (uncertainty)": lambda m: _number(m["brier_parts"]["uncertainty"]),
        "– within bins (remainder)": lambda m: _number(m["brier_parts"]["remainder"]),
    }
    models = figures["models"]
    rows = tuple((name, *map(read, models.values())) for name, read in shares.items())
    heads = ("", *(NAMES[role].capitalize() for role in models))
    broken = [NAMES[role] for role in figures["broken"]]
    left = f"; {listing(broken)} left out: answers that are NaN" if broken else ""
    return Table(heads, rows, f"All errors, {figures['bins']} bins{left}", folded=True)


def temperature_table(figures: Mapping[str, Any]) -> list[Block]:
    """What a temperature does for each model, or why there is none."""
    rows = []
    for role, model in figures["models"].items():
        if (found := model["temperature"]) is None:
            continue
        change = found["nll_change"]
        rows.append(
            (
                NAMES[role].capitalize(),
                found["limit"]
                or f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})",
                f"{percent(model['ece'], 2)} → {percent(found['ece'], 2)}",
                f"{points(found['ece_change']['mean'])} ({span(found['ece_change'])})",
                f"{_number(model['nll'])} → {_number(found['nll'])}",
                "–" if change is None else _ends(change),
            )
        )
    if not rows:
        return [Words("No temperature was fitted: that needs a validation set.")]
    heads = ("", "Temperature", "ECE", "Change, points", "NLL", "Change, nats")
    caption = f"A temperature for each model, fitted on {figures['fitted']:,} validation examples"
    return [Table(heads, tuple(rows), caption)]


def group_tables(figures: Mapping[str, Any]) -> list[Block]:
    """The student's confidence in every group."""
    return [
        Table(
            ("Group", "Examples", "Sure", "Right", "Sure − right, points", "Against the others"),
            tuple(
                (
                    row["group"],
                    f"{row['examples']:,}",
                    percent(row["confidence"]),
                    percent(row["accuracy"]),
                    points(row["gap"]),
                    "too few" if row["differs"] is None else span(row["differs"]),
                )
                for row in rows
            ),
            f"The student's confidence by {name}",
        )
        for name, rows in figures["groups"].items()
        if rows
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _ends(change: Mapping[str, Any]) -> str:
    return f"{change['low']:+.4f} to {change['high']:+.4f}".replace("-", "−")
