"""``report.md``: the report for a pull request, plain words first, pictures by their captions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tutelage.evaluation.faces.blocks import Table, as_markdown
from tutelage.evaluation.faces.compression import compression
from tutelage.evaluation.faces.proof import blocks_of
from tutelage.evaluation.faces.rows import model_roles, model_rows
from tutelage.evaluation.wording import ROLES, gate_value, percent, points, span

_MARKS = {"warning": "▲ **Look at this.**", "notice": "● Know this.", "fine": "✓ In order."}
_STATUS = {"yes": "✓ meets its conditions", "no": "✗ do not ship", "open": "no conditions set"}


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report as Markdown: what a reviewer must know is above the fold.

    Args:
        report: Figures, as in ``report.json`` (see `Report.figures`).

    Returns:
        Text for a pull request; the parts of the proof are folded, and nothing is loaded.
    """
    verdict, parts = report["verdict"], report.get("parts", {})
    sections = [
        f"## {_line(verdict['headline'])}",
        f"Distillation report of **{_line(_name(report['recipe']))}** on "
        f"{_line(report['data']['name'])}: {_STATUS[verdict['status']]}.",
        *_gates(report["gates"]),
        _told("What you gained", verdict["gained"]),
        _told("What was lost", verdict["lost"]),
        _told("May you ship it?", verdict["ship"]),
        _told("What else was found", _findings(parts)),
        "### The models side by side\n\n" + as_markdown([_models(report["models"])]),
        *_classes(report["comparison"]["per_class"]),
        *_compression(report.get("compression")),
        *(_part(name, part) for name, part in parts.items() if not part["left_out"]),
        _told("What could not be asked", _left_out(parts)),
        _told("Notes", report["notes"]),
        f"To make it again: `{report['command']}`" if report["command"] else "",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _gates(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    if not gates:
        return []
    rows = tuple(
        (
            gate["name"],
            f"{gate['rule']} {gate_value(gate, 'threshold')}",
            gate_value(gate, "value"),
            "✓ passed" if gate["passed"] else "✗ **failed**",
        )
        for gate in gates
    )
    return [as_markdown([Table(("Condition", "Asked", "Found", ""), rows)])]


def _models(models: Mapping[str, Any]) -> Table:
    roles = model_roles(models)
    heads = (ROLES[role].capitalize() + _called(models[role]["name"]) for role in roles)
    rows = tuple(
        (row.name, *(f"{value} ({small})" if small else value for value, small in row.cells))
        for row in model_rows(models)
    )
    return Table(("", *heads), rows)


def _called(name: str) -> str:
    return f" (`{name}`)" if name else ""


def _classes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [row for row in rows if row["delta"] is not None]
    if not known:
        return []
    cells = tuple(
        (
            str(row["class"]),
            f"{row['examples']:,}",
            percent(row["teacher"]),
            percent(row["student"]),
            f"{points(row['delta'])} ({span(dict(row))})" + (" **clear**" if row["clear"] else ""),
        )
        for row in sorted(known, key=lambda row: row["delta"])
    )
    table = Table(("Class", "Examples", "Teacher", "Student", "Change, points"), cells)
    return [_folded("Class by class", _tagless(as_markdown([table])))]


def _compression(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    return [f"### Smaller files of the student\n\n{_tagless(as_markdown(compression(found)))}"]


def _findings(parts: Mapping[str, Any]) -> list[str]:
    found = [one for part in parts.values() for one in part["findings"]]
    found.sort(key=lambda one: list(_MARKS).index(one["status"]))
    return [f"{_MARKS[one['status']]} {one['text']}" for one in found]


def _left_out(parts: Mapping[str, Any]) -> list[str]:
    return [f"{part['title']}: {part['left_out']}" for part in parts.values() if part["left_out"]]


def _part(name: str, part: Mapping[str, Any]) -> str:
    return _folded(part["title"], _tagless(as_markdown(blocks_of(name, part))))


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{_line(title)}</summary>\n\n{text}\n\n</details>"


def _told(title: str, sentences: Iterable[str]) -> str:
    lines = "\n".join(f"- {_line(sentence)}" for sentence in sentences)
    return f"### {title}\n\n{lines}" if lines else ""


def _line(text: str) -> str:
    return _tagless(" ".join(str(text).split()))


def _tagless(text: str) -> str:
    """The same, and no reader of Markdown takes a name in it for a tag."""
    return text.replace("<", "&lt;")


def _name(recipe: Any) -> str:
    return str(recipe.get("name", "unnamed recipe") if isinstance(recipe, Mapping) else recipe)
