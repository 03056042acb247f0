"""One condition for shipping: what it means, which figure it reads, and which way it points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Figure = Callable[[Mapping[str, Any]], float | Mapping[str, Any] | None]
"""Reads a report; a figure alone, or with its interval: ``{"mean", "low", "high", ...}``."""


@dataclass(frozen=True)
class Gate:
    """A condition.

    Attributes:
        meaning: Of its figure, in a clause: "accuracy lost against the teacher".
        at_most: Whether the threshold is the most that is allowed; else it is the least.
        figure: Where the figure is; None where it could not be measured.
        unit: "%" for a share, "points" for a difference of shares; else of the figure.
    """

    meaning: str
    at_most: bool
    figure: Figure
    unit: Literal["", "%", "points", "ms", "×"] = ""

    @property
    def of_shares(self) -> bool:
        """Whether its figure is a share of the examples, or a difference of two."""
        return self.unit in ("%", "points")


def in_part(part: str, *keys: str) -> Figure:
    """Reads a figure of a part: ``in_part("fairness", "worst_group", "drop")``."""

    def read(report: Mapping[str, Any]) -> Any:
        found: Any = report.get("parts", {}).get(part, {}).get("figures", {})
        for key in keys:
            if not isinstance(found, Mapping) or key not in found:
                return None
            found = found[key]
        return found

    return read
