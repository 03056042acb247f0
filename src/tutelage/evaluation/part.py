"""A part of the report: one question asked of the models, its figures, and what they mean."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
