"""From a recipe's ``objective`` to a weighted sum of registered ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.errors import RecipeError
from tutelage.objectives.base import AbstractObjective, Sum, Weighted
from tutelage.recipe import schema
from tutelage.recipe.complaints import short
from tutelage.recipe.sections import Named


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


def parts_of(written: Sequence[Named]) -> list[Part]:
    """``[{ce: {weight: 0.1}}, {kd: {weight: 0.9, temperature: 4}}]``, each made and weighted.

    Raises:
        RecipeError: One line naming key, value and remedy.
    """
    parts: list[Part] = []
    heard = False
    for index, named in enumerate(written):
        key, options = f"objective.{index}", dict(named.options)
        weight = options.pop("weight", 1.0)
        real = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not real or not math.isfinite(weight):
            raise RecipeError(
                f"{key}.{named.name}.weight: got {short(weight)}: this should be a finite number."
            )
        made = schema.build("objective", Named(name=named.name, options=options), key)
        whole = Weighted(made, float(weight))
        parts.append(Part(f"{key}.{named.name}", whole, short(named.options or "no options")))
        heard = heard or (whole.weight != 0 and whole.needs_teacher)
    if not heard:
        names = [named.name for named in written]
        raise RecipeError(
            f"objective: got {short(names)}, and none of them listens to the teacher (with a "
            "weight that is not 0): add kd, say."
        )
    return parts


def joined(parts: Sequence[Part]) -> AbstractObjective:
    """Their sum."""
    return parts[0].objective if len(parts) == 1 else Sum(*(part.objective for part in parts))
