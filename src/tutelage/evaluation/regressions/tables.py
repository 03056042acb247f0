"""Tables of flips: what the part on silent regressions shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Table
from tutelage.evaluation.wording import percent


def runs_table(figures: Mapping[str, Any]) -> Table:
    """Flips of every run, and between runs of the student."""
    names = {"student": "Student", "baseline": "Student alone"}
    rows = [
        (
            names[role] + (f", run {number}" if len(runs) > 1 else ""),
            percent(run["negative"], 2),
            percent(run["positive"], 2),
            "–" if run["relative"] is None else f"{run['relative']:.2f}",
        )
        for role, runs in figures["runs"].items()
        for number, run in enumerate(runs, 1)
    ]
    rows += [
        (f"Student, run {number} in place of run 1", percent(rate, 2), "–", "–")
        for number, rate in enumerate(figures["between_seeds"], 2)
    ]
    head = ("In place of the teacher", "Became wrong", "Became right", "Relative")
    return Table(head, tuple(rows), "Flips of every run; run 1 is shipped")


def places_table(rows: Sequence[Mapping[str, Any]], caption: str, *, folded: bool = False) -> Table:
    """Flips by class or group."""
    head = (
        "",
        "Examples",
        "Became wrong",
        "Became right",
        "Wrong with the student alone",
        "Chance",
    )
    lines = tuple(
        (
            row["name"],
            f"{row['examples']:,}",
            f"{row['negative']:,} ({100 * row['share']['low']:.1f} to "
            f"{percent(row['share']['high'])})",
            f"{row['positive']:,}",
            "–" if row["baseline"] is None else f"{row['baseline']:,}",
            f"{row['p']:.2g}{' ▲' if row['worse'] else ''}",
        )
        for row in rows
    )
    return Table(head, lines, f"{caption} (▲: worse beyond chance, allowing for all)", folded)


def surest_table(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The flips that somebody should look at first."""
    if not rows:
        return []
    head = ("Example", "Truth", "The student says", "How sure it is", "How sure the teacher was")
    lines = tuple(
        (
            str(row["id"]),
            row["true"],
            row["answered"],
            percent(row["student_sure"]),
            percent(row["teacher_sure"]),
        )
        for row in rows
    )
    return [Table(head, lines, "Negative flips that the student is surest of", folded=True)]
