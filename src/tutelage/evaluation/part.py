"""A part of the report: one question asked of the models, its figures, and what they mean."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from tutelage.core import registry
from tutelage.core.errors import TutelageError
from tutelage.core.finding import Finding as Finding
from tutelage.core.finding import Status as Status
from tutelage.evaluation.faces.blocks import Block
from tutelage.evaluation.gates.gate import Gate
from tutelage.evaluation.subjects import Subjects


class AbstractPart(ABC):
    """One question. A subclass is registered as ``part``; its options are its signature's.

    Attributes:
        title: Heading of its section.
        long: Whether it takes more than some seconds on a small run: asked for by name or by
            ``full``.
        measures_time: Whether its figures are times, memory or the like, which differ from run to
            run; all others must be the same for the same seed.
        gates: Conditions for shipping that rest on its figures, by name; each reads the whole
            report (its own figures are at ``report["parts"][name]["figures"]``).
    """

    title: ClassVar[str]
    long: ClassVar[bool] = False
    measures_time: ClassVar[bool] = False
    gates: ClassVar[Mapping[str, Gate]] = {}

    def absent(self, subjects: Subjects) -> str | None:
        """Why this cannot be asked here, in a clause ("there is no teacher"); None if it can."""
        return None

    @abstractmethod
    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Everything found, as plain data: finite numbers or None, texts, lists, mappings."""

    @abstractmethod
    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """What the figures mean, warnings first; at least one sentence."""

    @abstractmethod
    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """What its section shows."""


def standard() -> dict[str, AbstractPart]:
    """All parts that are quick, with their default options."""
    return {name: part for name, part in full().items() if not part.long}


def full() -> dict[str, AbstractPart]:
    """All parts, with their default options.

    Example:
        >>> set(standard()) <= set(full())
        True
    """
    import tutelage.evaluation.parts  # noqa: F401  # their names on their shelf

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
