"""Numbers that are given as options, refused in one line where they are none that can be meant."""

import math
from numbers import Integral, Real

from tutelage.core.errors import RecipeError


def whole_number(value: object, option: str) -> int:
    """An option that must be a whole number of at least 1.

    >>> whole_number(3, "steps")
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise RecipeError(f"{option} must be a whole number, at least 1, got {value!r}.")
    return int(value)


def number_within(
    value: object,
    option: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """An option that must be a finite number between bounds.

    >>> number_within(0.9, "momentum", least=0, below=1)
    0.9
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if isinstance(value, Real) and real else math.nan
    if not (math.isfinite(number) and least <= number <= most and above < number < below):
        words = (("at least", least), ("above", above), ("at most", most), ("below", below))
        bounds = [f"{word} {bound:g}" for word, bound in words if math.isfinite(bound)]
        wanted = " and ".join(bounds)
        raise RecipeError(
            f"{option} must be a finite number{', ' if wanted else ''}{wanted}, got {value!r}."
        )
    return number
