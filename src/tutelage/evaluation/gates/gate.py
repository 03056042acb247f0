"""One condition for shipping: what it means, which figure it reads, and which way it points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tutelage.core.errors import RecipeError, suggest

Figure = Callable[[Mapping[str, Any]], float | Mapping[str, Any] | None]
"""Reads a report: a figure alone, or with its interval, ``{"mean", "low", "high", ...}``.

Beside these may stand ``level`` (its confidence), ``examples`` (how many it rests on) and ``of``
(what these are: "examples of class coat"), for a sentence on how many would be enough.
"""
By = Literal["shown", "estimate", "not_refuted"]
"""What must be within the threshold: the worse end of the interval (shown to be met), the figure
itself, or the better end (not shown to be broken)."""


@dataclass(frozen=True)
class Gate:
    """A condition.

    Attributes:
        meaning: Of its figure, in a clause: "accuracy lost against the teacher".
        at_most: Whether the threshold is the most that is allowed; else it is the least.
        figure: Where the figure is; None where it could not be measured.
        unit: "%" for a share, "points" for a difference of shares; else of the figure.
        needs: Roles without which it cannot be measured: ``("baseline",)``.
    """

    meaning: str
    at_most: bool
    figure: Figure
    unit: Literal["", "%", "points", "ms", "×"] = ""
    needs: tuple[str, ...] = ()

    @property
    def of_shares(self) -> bool:
        """Whether its figure is a share of the examples, or a difference of two."""
        return self.unit in ("%", "points")

    @property
    def rule(self) -> Literal["at_most", "at_least"]:
        """Which way it points, as a recipe writes it."""
        return "at_most" if self.at_most else "at_least"


@dataclass(frozen=True)
class Demand:
    """What is asked of a gate's figure.

    Attributes:
        threshold: The most or the least that is allowed.
        by: What must be within it; None for ``shown`` where there is an interval, else
            ``estimate``.
    """

    threshold: Any
    by: By | None = None

    @classmethod
    def of(cls, name: str, gate: Gate, asked: Any) -> "Demand":
        """From what a recipe says: ``0.02`` or ``{at_most: 0.02, by: estimate}``.

        Raises:
            RecipeError: One line: a wrong key, direction or way of judging.
        """
        if not isinstance(asked, Mapping):
            return cls(asked)
        other = "at_least" if gate.at_most else "at_most"
        for key in asked:
            if key == other:
                raise RecipeError(
                    f"gate {name!r} holds {gate.meaning} to a threshold {gate.rule}, got {other}: "
                    f"write {{{gate.rule}: {asked[key]}}}."
                )
            if key not in (gate.rule, "by"):
                raise RecipeError(
                    f"gate {name!r} has no key {key!r}. {suggest(str(key), [gate.rule, 'by'])}"
                )
        if gate.rule not in asked:
            raise RecipeError(f"gate {name!r} has no threshold: write {{{gate.rule}: number}}.")
        by = asked.get("by")
        if by is not None and by not in get_args(By):
            raise RecipeError(
                f"gate {name!r} is to be judged by {by!r}. {suggest(str(by), get_args(By))}"
            )
        return cls(asked[gate.rule], by)


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
