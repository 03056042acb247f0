"""The parts of the proof on the page: what they found first, then a section for each."""

from collections.abc import Mapping
from html import escape
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.core.registry import get
from tutelage.evaluation.faces.blocks import Block, Words, as_html
from tutelage.evaluation.faces.tables import prose

Parts = Mapping[str, Mapping[str, Any]]
_MARKS = {"warning": "▲ Look at this", "notice": "● Know this", "fine": "✓ In order"}
_SHOWN = 5  # findings in order that are not folded away
_ORDER = ("warning", "notice", "fine")


def found(parts: Parts) -> str:
    """All findings on one card, warnings first, each marked by a word and a sign.

    Where many are in order they are folded away, so that what matters stays in sight.
    """
    findings = [one for part in parts.values() for one in part["findings"]]
    findings.sort(key=lambda one: _ORDER.index(one["status"]))
    if not findings:
        return ""
    fine = [one for one in findings if one["status"] == "fine"]
    shown = findings if len(fine) <= _SHOWN else findings[: len(findings) - len(fine)]
    told = _list(shown)
    if len(shown) < len(findings):
        told += f"<details><summary>{len(fine)} more are in order</summary>{_list(fine)}</details>"
    return f'<section class="found"><h2>What else was found</h2>{told}</section>'


def _list(findings: list[Mapping[str, str]]) -> str:
    lines = "".join(
        f'<li class="{one["status"]}"><b>{_MARKS[one["status"]]}.</b> {prose(one["text"])}</li>'
        for one in findings
    )
    return f"<ul>{lines}</ul>" if lines else ""


def proof(parts: Parts) -> list[str]:
    """One section a part, and a last one that says what could not be asked."""
    sections = [_section(name, part) for name, part in parts.items() if not part["left_out"]]
    missing = "".join(
        f"<tr><th>{escape(part['title'])}</th><td>{prose(part['left_out'])}</td></tr>"
        for part in parts.values()
        if part["left_out"]
    )
    if missing:
        table = f'<table class="facts"><tbody>{missing}</tbody></table>'
        sections.append(f"<section><h2>What could not be asked</h2>{table}</section>")
    return sections


def blocks_of(name: str, part: Mapping[str, Any]) -> list[Block]:
    """What a part's section shows, from its figures alone; a part of elsewhere shows nothing."""
    import tutelage.evaluation.parts  # noqa: F401  # its names on their shelf

    try:
        kind = get("part", name)
    except RecipeError:
        return [Words("This part is not known here: see report.json for its figures.")]
    return list(kind().blocks(part["figures"]))


def _section(name: str, part: Mapping[str, Any]) -> str:
    return f"<section><h2>{escape(part['title'])}</h2>{as_html(blocks_of(name, part))}</section>"
