"""The report in a terminal: one table, and what it means in two or three sentences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tutelage.evaluation.faces.rows import model_roles, model_rows
from tutelage.evaluation.wording import ROLES

if TYPE_CHECKING:
    from rich.console import Console, Group

_COLOURS = {"teacher": "blue", "student": "yellow", "baseline": "bright_black"}
_STATUS = {"yes": "green", "no": "red", "open": "default"}


def summary(report: Mapping[str, Any]) -> "Group":
    """What to print: a rich table of the models, the headline, and the first of each verdict.

    Args:
        report: Figures, as in ``report.json``.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for role in model_roles(report["models"]):
        table.add_column(ROLES[role], justify="right", style=_COLOURS[role])
    for row in model_rows(report["models"]):
        cells = (f"{value} ({small})" if small else value for value, small in row.cells)
        table.add_row(row.name, *cells)
    verdict = report["verdict"]
    lines = [Text(verdict["headline"], style="bold")]
    lines += [Text(verdict[part][0]) for part in ("gained", "lost") if verdict[part]]
    # Every gate that failed has a sentence of its own, and these come first.
    failed = sum(not gate["passed"] for gate in report["gates"])
    shipping = verdict["ship"][: max(1, failed)]
    lines += [Text(told, style=_STATUS[verdict["status"]]) for told in shipping]
    lines += [Text(f"Note: {note}", style="dim") for note in report["notes"]]
    return Group(table, Text(""), *lines)


def print_summary(report: Mapping[str, Any], console: "Console | None" = None) -> None:
    """Print `summary` to a console, or to a new one on standard output."""
    from rich.console import Console

    (console if console is not None else Console()).print(summary(report))
