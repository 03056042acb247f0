"""The report's tables, as HTML: models as columns, so that they fit a phone."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tutelage.evaluation.faces.rows import Cell, model_roles, model_rows
from tutelage.evaluation.wording import ROLES, gate_range, gate_value, percent, points

_UNITS = "ms|B|kB|MB|GB|k|M|G|points|seeds|gates|threads?"


def model_table(models: Mapping[str, Any]) -> str:
    """All models with all figures, each explained in a line below it."""
    roles = model_roles(models)
    heads = "".join(
        f'<th class="{role}">{ROLES[role].capitalize()}<br>'
        f"<small>{escape(models[role]['name'])}</small></th>"
        for role in roles
    )
    body = "".join(
        f"<tr><th>{escape(row.name)}</th>{''.join(map(_cell, row.cells))}</tr>"
        f'<tr class="why"><td colspan="{len(roles) + 1}">{escape(row.meaning)}</td></tr>'
        for row in model_rows(models)
    )
    return (
        f'<table class="models" style="--models: {len(roles)}"><thead><tr><th></th>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )


def seed_table(seeds: Sequence[Mapping[str, Any]], shipped: int) -> str:
    """Accuracy of student and baseline for every seed."""
    body = ""
    for row in seeds:
        mark = " <small>(shipped)</small>" if row["seed"] == shipped else ""
        known = row["student"] is not None and row["baseline"] is not None
        change = points(row["student"] - row["baseline"]) if known else "–"
        alone = "–" if row["baseline"] is None else percent(row["baseline"], 2)
        body += (
            f"<tr><th>{row['seed']}{mark}</th><td>{percent(row['student'], 2)}</td>"
            f"<td>{alone}</td><td>{change}</td></tr>"
        )
    return (
        '<table><thead><tr><th>Seed</th><th class="student">Student</th>'
        '<th class="baseline">Student alone</th><th>Difference</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def class_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy of every model in every class."""
    body = "".join(
        f"<tr><th>{escape(str(row['class']))} <small>{row['examples']:,}</small></th>"
        + "".join(f"<td>{'–' if row[role] is None else percent(row[role])}</td>" for role in ROLES)
        + f"<td>{points(row['delta'])}<br><small>{points(row['low'])} to {points(row['high'])}"
        "</small></td></tr>"
        for row in rows
    )
    heads = "".join(f'<th class="{role}">{name.capitalize()}</th>' for role, name in ROLES.items())
    return (
        '<div class="scroll"><table><thead><tr><th>Class <small>examples</small></th>'
        f"{heads}<th>Student − teacher</th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def gate_table(gates: Sequence[Mapping[str, Any]]) -> str:
    """Every condition, what was found with its range, whether it was met, and why."""
    body = "".join(
        f"<tr><th>{escape(gate['name'])}<br><small>{escape(gate['meaning'])}</small></th>"
        f"<td>{gate['rule']} {gate_value(gate, 'threshold')}</td>"
        f"<td>{_cell_text(gate_value(gate, 'value'), gate_range(gate))}</td>"
        + (
            '<td class="yes">passed</td></tr>'
            if gate["passed"]
            else '<td class="no">failed</td></tr>'
        )
        + (
            f'<tr class="why"><td colspan="4">{prose(_capital(gate["evidence"]))}.</td></tr>'
            if gate.get("evidence")
            else ""
        )
        for gate in gates
    )
    return (
        "<table><thead><tr><th>Condition</th><th>Asked</th><th>Found</th><th></th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def prose(text: str) -> str:
    """Text for a page, no figure parted from its unit at the end of a line.

    >>> prose("5 % < 2.3 points")
    '5&nbsp;% &lt; 2.3&nbsp;points'
    """
    return re.sub(rf"(?<=\d) (?=(?:{_UNITS})\b|%)", "&nbsp;", escape(text))


def plain(value: object) -> str:
    """Nested facts in a line: ``torch 2.13.0, numpy 2.4``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    return "" if value is None else str(value)


def _cell(cell: Cell) -> str:
    return f"<td>{_cell_text(*cell)}</td>"


def _cell_text(value: str, small: str) -> str:
    return f"{prose(value)}{f'<br><small>{prose(small)}</small>' if small else ''}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
