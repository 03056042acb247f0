"""From statistics of many kinds to one level that a share of undrifted windows exceeds."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import RecipeError

Array = NDArray[Any]


def draws_for(false_alarms: float) -> int:
    """How many windows are drawn, so that about twenty of them exceed the level.

    >>> draws_for(0.01), draws_for(0.2), draws_for(1e-6)
    (2000, 1000, 10000)

    Raises:
        RecipeError: It is no share.
    """
    if not 0 < false_alarms < 1:
        raise _no_share(false_alarms)
    return int(min(10_000, max(1000, math.ceil(20 / false_alarms))))


@dataclass(frozen=True)
class Level:
    """One level for a family of statistics, over the largest of them.

    Each statistic, nearly normal, is read as ``(T - mean) / deviation`` over the drawn windows,
    and the largest reading is held to the level. A statistic that hardly moves among the drawn
    windows is given the median mean and deviation of its kind: a rare value is no miracle.

    Attributes:
        mean: Of each statistic, ``(J,)``.
        deviation: Of each statistic, ``(J,)``.
        value: The level.
        largest: The largest reading of each drawn window, ascending, ``(B,)``.

    Paper: Westfall and Young, Resampling-Based Multiple Testing, Wiley 1993 (single-step max T).
    """

    mean: Array
    deviation: Array
    value: float
    largest: Array

    def read(self, statistics: Array) -> Array:
        """Statistics ``(..., J)`` in deviations from what they are without drift."""
        return np.asarray((statistics - self.mean) / self.deviation)

    def at(self) -> Array:
        """The statistics at the level, ``(J,)``."""
        return np.asarray(self.mean + self.value * self.deviation)

    def p(self, largest: float) -> float:
        """Share of undrifted windows whose largest reading is at least this."""
        above = len(self.largest) - int(np.searchsorted(self.largest, largest, "left"))
        return (above + 1) / (len(self.largest) + 1)


def level_of(drawn: Array, kinds: tuple[str, ...], false_alarms: float) -> Level:
    """The level that undrifted windows exceed with a probability of at most ``false_alarms``.

    Args:
        drawn: Statistics of windows without drift, ``(B, J)``.
        kinds: Of each statistic; those of one kind are on one scale.
        false_alarms: Share of windows.

    Raises:
        RecipeError: The share is none, or too small for the number of windows.
    """
    place = math.ceil((len(drawn) + 1) * (1 - false_alarms)) - 1
    if not 0 < false_alarms < 1 or place >= len(drawn):
        raise _no_share(false_alarms)
    mean, deviation = drawn.mean(0), drawn.std(0)
    for kind in set(kinds):
        alike = np.array([each == kind for each in kinds])
        mean[alike] = np.maximum(mean[alike], np.median(mean[alike]))
        deviation[alike] = np.maximum(deviation[alike], np.median(deviation[alike]))
    deviation = np.maximum(deviation, 1e-9)
    largest = np.sort(((drawn - mean) / deviation).max(1))
    return Level(mean, deviation, float(largest[place]), largest)


def rate_of_rule(false_alarms: float, needed: int, windows: int) -> float:
    """Probability that at least ``needed`` of ``windows`` windows exceed the level without drift.

    The windows are taken as independent: they share no example, but they share one reference, so
    the true rate of several in a row is somewhat higher.

    Example:
        >>> round(rate_of_rule(0.01, 2, 3), 6)
        0.000298
    """
    return sum(
        math.comb(windows, many) * false_alarms**many * (1 - false_alarms) ** (windows - many)
        for many in range(needed, windows + 1)
    )


def _no_share(false_alarms: float) -> RecipeError:
    return RecipeError(
        f"--false-alarms: {false_alarms:g} was given: a share from 0.0001 up to, not including, 1 "
        "is needed, such as 0.01."
    )
