"""Asking the parts of a report: which there are, and what each finds."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import tutelage.evaluation.parts  # noqa: F401  # their names on their shelf
from tutelage.core import registry
from tutelage.core.errors import TutelageError
from tutelage.evaluation.part import AbstractPart
from tutelage.evaluation.subjects import Subjects


def standard() -> dict[str, AbstractPart]:
    """All parts that are quick, with their default options."""
    return {name: part for name, part in full().items() if not part.long}


def full() -> dict[str, AbstractPart]:
    """All parts, with their default options.

    Example:
        >>> set(standard()) <= set(full())
        True
    """
    return {name: registry.build("part", name) for name in registry.names("part")}


WORDS: Mapping[str, Callable[[], dict[str, AbstractPart]]] = {
    "standard": standard,
    "full": full,
    "none": dict,
}
"""What stands for several parts where parts are asked for by name."""


def examine(
    subjects: Subjects,
    parts: Mapping[str, AbstractPart],
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Ask every part; one that cannot be asked says why, and the others go on.

    Args:
        subjects: Whom to ask about.
        parts: By name (see `chosen`).
        say: Told the title of each part as it begins.

    Returns:
        By name: ``title``, ``seconds``, ``left_out`` (None or why), ``figures``, ``findings``.
    """
    found = {}
    for name, part in parts.items():
        started = time.perf_counter()
        why, figures = part.absent(subjects), {}
        if why is None:
            say(part.title)
            try:
                figures = part.figures(subjects)
            except TutelageError as error:
                why = str(error)
        told = [] if why else part.findings(figures)
        found[name] = {
            "title": part.title,
            "seconds": round(time.perf_counter() - started, 2),
            "left_out": why,
            "figures": figures,
            "findings": [{"status": one.status, "text": one.text} for one in told],
        }
    return found
