"""From a recipe's ``objective`` to a weighted sum of registered ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import get, names, options_of
from tutelage.objectives.base import AbstractObjective, Sum, Weighted
from tutelage.objectives.inner import Inner
from tutelage.objectives.weighting.reweighted import By
from tutelage.recipe import schema
from tutelage.recipe.complaints import short
from tutelage.recipe.sections import Name, Named


@dataclass(frozen=True)
class Part:
    """One entry of a recipe's objective.

    Attributes:
        key: Its place in the recipe.
        objective: What it asks for, weighted.
        written: Its options, for messages.
    """

    key: str
    objective: AbstractObjective
    written: str


_WITHIN = {"objective": Inner, "weighting": By}
"""What an option of such a type holds: another registered thing, with options of its own."""


def parts_of(
    written: Sequence[Named], examples: int | None = None, heard: bool = False
) -> list[Part]:
    """``[{ce: {weight: 0.1}}, {kd: {weight: 0.9, temperature: 4}}]``, each made and weighted.

    Args:
        written: As the recipe has it.
        examples: How many example numbers there are, for objectives that remember each.
        heard: Whether the teacher is heard anyway, or nobody has to: else one term must.

    Raises:
        RecipeError: One line naming key, value and remedy.
    """
    parts: list[Part] = []
    for index, named in enumerate(written):
        key, options = f"objective.{index}", dict(named.options)
        weight = options.pop("weight", 1.0)
        real = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not real or not math.isfinite(weight):
            raise RecipeError(
                f"{key}.{named.name}.weight: got {short(weight)}: this should be a finite number."
            )
        made = _made("objective", Named(name=named.name, options=options), key, examples)
        whole = Weighted(made, float(weight))
        parts.append(Part(f"{key}.{named.name}", whole, short(named.options or "no options")))
        heard = heard or (whole.weight != 0 and whole.needs_teacher)
    if not heard:
        asked = [named.name for named in written]
        raise RecipeError(
            f"objective: got {short(asked)}, and none of them listens to the teacher (with a "
            "weight that is not 0): add kd, say."
        )
    return parts


def _made(kind: str, named: Named, key: str, examples: int | None) -> Any:
    """What ``named`` says; what is written inside its options is made first."""
    options, given = dict(named.options), {}
    known = options_of(get(kind, named.name)) if named.name in names(kind) else {}
    for option, parameter in known.items():
        for inner, written in _WITHIN.items():
            if parameter.annotation == written and option in options:
                place = f"{key}.{named.name}.{option}"
                given[option] = _made(inner, _named(options.pop(option), place), place, examples)
    if "examples" in known and "examples" not in options and examples is not None:
        given["examples"] = examples
    return schema.build(kind, Named(name=named.name, options=options), key, **given)


def _named(written: Any, key: str) -> Named:
    try:
        return TypeAdapter(Name).validate_python(written)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{key}: {said}.") from error


class Silent(AbstractObjective):
    """Says nothing: beside a setting that has a loss of its own."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """No terms."""
        return {}


def joined(parts: Sequence[Part]) -> AbstractObjective:
    """Their sum."""
    if not parts:
        return Silent()
    return parts[0].objective if len(parts) == 1 else Sum(*(part.objective for part in parts))
