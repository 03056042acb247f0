"""``tutelage evaluate``: from typed words to an evaluation, and what it prints."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.evaluation import print_summary
from tutelage.recipe.arms import Desk
from tutelage.recipe.evaluating import Evaluated, evaluate, gates_of, plain
from tutelage.recipe.reading import assign


def work(
    models: dict[str, str | None],
    data: str,
    report: str,
    gates: list[str],
    changes: list[str],
    *,
    out: Path | None,
    force: bool,
    as_json: bool,
    command: str,
) -> Evaluated:
    """Do what was typed; with ``as_json`` nothing but the report is printed.

    Args:
        models: Words for student, teacher and baseline.
        data: Words for the data.
        report: ``standard``, ``full``, ``none``, or names with commas between them.
        gates: ``NAME=NUMBER``, or recipes whose gates are meant.
        changes: ``KEY=VALUE`` of ``--set``.
        out: The folder, where one was named.
        force: Whether an older report may be replaced.
        as_json: Whether a program reads on.
        command: As it was typed.
    """
    written: dict[str, Any] = {role: plain(words) for role, words in models.items() if words}
    written |= {"data": plain(data), "report": _parts(report), "gates": gates_of(gates)}
    console = Console(stderr=as_json, quiet=as_json)
    done = evaluate(assign(written, changes), out, Desk(console), force=force, command=command)
    if as_json:
        print(json.dumps(done.report, indent=1, ensure_ascii=False))
    else:
        print_summary(done.report, console)
        console.print(_where(done), markup=False, highlight=False, soft_wrap=True)
    return done


def _parts(words: str) -> Any:
    found = plain(words)
    if isinstance(found, dict):
        return [found]
    return [word.strip() for word in found.split(",")] if isinstance(found, str) else found


def _where(done: Evaluated) -> str:
    return f"\n{done.folder}: {', '.join(sorted(path.name for path in done.folder.iterdir()))}"
