"""What ``tutelage registry list`` and ``show`` print."""

import json
from collections.abc import Sequence
from typing import Any

from tutelage.core.errors import RecipeError, suggest
from tutelage.deployment.registry import Event, Registry, Version
from tutelage.deployment.registry.words import PRODUCTION, checked_name


def models(where: str | None, as_json: bool) -> None:
    """All models of a registry."""
    with Registry.at(where) as opened:
        found = {name: opened.versions(name) for name in opened.names()}
        home = opened.home
    if as_json:
        _json({name: [each.as_dict() for each in versions] for name, versions in found.items()})
    elif not found:
        print(f"There are no models in {home} yet: tutelage registry add NAME PACKAGE.")
    else:
        rows = [_model(name, versions) for name, versions in found.items()]
        print(table(["model", "versions", "production", "accuracy", "other aliases"], rows))


def shown(words: str, where: str | None, as_json: bool) -> None:
    """A model with all versions, or one version."""
    with Registry.at(where) as opened:
        if "@" in words or "/" in words:
            version = opened.resolve(words)
            _json(version.as_dict()) if as_json else print(_one(version))
            return
        versions, events = opened.versions(checked_name(words)), opened.history(words)
        if not versions:
            known = suggest(words, opened.names())
            raise RecipeError(f"there is no model {words!r} in {opened.home}. {known}")
    if as_json:
        _json(
            {
                "name": words,
                "versions": [each.as_dict() for each in versions],
                "history": [each.as_dict() for each in events],
            }
        )
        return
    head = ["version", "package", "added", "accuracy", "recipe", "aliases"]
    print(table(head, [_row(each) for each in versions]))
    if events:
        head = ["when", "who", "what", "alias", "from", "to", "why"]
        print("\n" + table(head, [_event(each) for each in events]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text.

    >>> print(table(["a", "b"], [["1", "x"], ["22", ""]]))
    a   b
    1   x
    22
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _model(name: str, versions: Sequence[Version]) -> list[str]:
    held = [each for each in versions if PRODUCTION in each.aliases]
    others = [f"{a}={v.number}" for v in versions for a in v.aliases if a != PRODUCTION]
    now = held[0] if held else None
    return [
        name,
        str(len(versions)),
        str(now.number) if now else "none",
        _accuracy(now) if now else "",
        ", ".join(others),
    ]


def _row(version: Version) -> list[str]:
    return [
        str(version.number),
        version.digest[:12],
        version.added[:16].replace("T", " "),
        _accuracy(version),
        version.lineage["recipe"]["name"],
        ", ".join(version.aliases),
    ]


def _event(event: Event) -> list[str]:
    names = {"refuse": "refused", "outside": "moved outside"}
    stopped = " (stopped, not done)" if not event.done and event.kind != "refuse" else ""
    ends = ["none" if n is None else str(n) for n in (event.before, event.after)]
    when = event.when[:19].replace("T", " ")
    what = names.get(event.kind, event.kind) + stopped
    return [when, event.who, what, event.alias, *ends, event.why]


def _one(version: Version) -> str:
    words = version.lineage
    student, teacher, data = words["student"], words["teacher"], words["data"]
    rows = [
        ["aliases", ", ".join(version.aliases) or "none"],
        ["package", f"{version.digest} ({words['signature']})"],
        ["folder", str(version.folder)],
        ["added", f"{version.added}, packed {words['packed']} by tutelage {words['tutelage']}"],
        ["student", f"{student['name']}, {student['bytes']:,} bytes, {student['sha256']}"],
        ["teacher", _teacher(teacher)],
        *([f"{key} data", f"{value}"] for key, value in data.items() if key != "name"),
        ["data", str(data.get("name"))],
        ["recipe", f"{words['recipe']['name']} ({words['recipe']['identity']})"],
        *(
            [f"gate {gate['name']}", "passed" if gate["passed"] else "failed"]
            for gate in words["gates"]
        ),
        *([key, f"{value:.6g}"] for key, value in words["figures"].items()),
    ]
    return table([version.words, ""], rows)


def _teacher(teacher: Any) -> str:
    if teacher is None:
        return "none"
    accuracy = teacher["accuracy"]
    right = "" if accuracy is None else f", {100 * accuracy:.1f} % right"
    taught = f": {teacher['taught']}" if teacher["taught"] else ""
    return f"{teacher['name']}{right}{taught}"


def _accuracy(version: Version) -> str:
    figures = version.lineage["figures"]
    found = figures.get("shipped.accuracy", figures.get("student.accuracy"))
    return "" if found is None else f"{100 * found:.1f} %"


def _json(found: Any) -> None:
    print(json.dumps(found, indent=1, ensure_ascii=False))
