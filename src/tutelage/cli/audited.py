"""What ``tutelage audit`` shows."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.data.audit import CHECKS, Audit
from tutelage.recipe import auditing

_MARKS = {"warning": ("▲", "bold red"), "notice": ("●", "yellow"), "fine": ("✓", "green")}
_LEVELS = {"warning": ("warning",), "notice": ("warning", "notice")}


def run(what: str, changes: list[str], out: Path | None, *, as_json: bool) -> Audit:
    """Audit a recipe's data or a source; write files into ``out``, and say what was found."""
    console = Console(highlight=False, markup=False)
    source = auditing.source_of(what, changes)
    with Console(stderr=True, highlight=False, markup=False).status("looking") as line:
        made = auditing.look(source, lambda words: line.update(words))
    written = auditing.write(made, out) if out is not None else []
    if as_json:
        console.file.write(json.dumps(made.as_dict(), indent=1, allow_nan=False) + "\n")
    else:
        show(made, console)
        for path in written:
            console.print(str(path), soft_wrap=True)
    return made


def reached(made: Audit, level: str) -> bool:
    """Whether something of this level, or worse, was found."""
    return made.worst in _LEVELS[level]


def show(made: Audit, console: Console) -> None:
    """Print an audit: a head line, and for every check what it found."""
    sizes = made.facts.get("splits", {})
    told = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    console.print(Text(f"{made.name}: {told}" if told else made.name, style="bold"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check, findings in made.findings.items():
        for number, finding in enumerate(findings):
            sign, style = _MARKS[finding.status]
            table.add_row(
                CHECKS[check] if number == 0 else "",
                Text(sign, style=style),
                finding.text,
            )
    console.print(table)
