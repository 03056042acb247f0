"""Learning-rate schedules: functions of how far the run is, so that resuming needs no state."""

import math
from collections.abc import Callable, Sequence

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.engine.options import number_within

Schedule = Callable[[float], float]
"""From progress in [0, 1) to a factor on the learning rate."""


@register("schedule", "constant")
def constant(*, warmup: float = 0.0) -> Schedule:
    """The learning rate as given.

    Args:
        warmup: Share of the run, in [0, 1), in which the factor climbs from near 0 to 1.
    """
    return _warmed(lambda _: 1.0, warmup)


@register("schedule", "cosine")
def cosine(*, warmup: float = 0.0, floor: float = 0.0) -> Schedule:
    """Half a cosine from 1 down to ``floor`` (Loshchilov, Hutter, 2016, arXiv:1608.03983).

    Example:
        >>> [round(cosine(floor=0.1)(t), 2) for t in (0.0, 0.5, 1.0)]
        [1.0, 0.55, 0.1]
    """
    if not 0 <= floor < 1:
        raise RecipeError(f"floor must be in [0, 1), got {floor}.")
    return _warmed(lambda t: floor + (1 - floor) * (1 + math.cos(math.pi * t)) / 2, warmup)


@register("schedule", "one_cycle")
def one_cycle(*, warmup: float = 0.3, start: float = 0.04, floor: float = 1e-4) -> Schedule:
    """Up along a cosine to the full rate, then down (Smith, Topin, 2017, arXiv:1708.07120).

    The momentum stays as it is, unlike in the paper.

    Args:
        warmup: Share of the run that goes up.
        start: Factor at the first step, in (0, 1].
        floor: Factor at the last, in (0, 1].
    """
    if not 0 < warmup < 1:
        raise RecipeError(f"one_cycle: warmup must be in (0, 1), got {warmup}.")
    number_within(start, "one_cycle: start", above=0, most=1)
    number_within(floor, "one_cycle: floor", above=0, most=1)

    def factor(t: float) -> float:
        low, share = (start, t / warmup) if t < warmup else (floor, (1 - t) / (1 - warmup))
        return low + (1 - low) * (1 - math.cos(math.pi * min(share, 1.0))) / 2

    return factor


@register("schedule", "multi_step")
def multi_step(
    *, milestones: Sequence[float] = (0.625, 0.75, 0.875), factor: float = 0.1, warmup: float = 0.0
) -> Schedule:
    """Times ``factor`` at each milestone.

    Args:
        milestones: Shares of the run in (0, 1), rising; the default is the 150, 180 and 210 of
            240 epochs that the CIFAR tables of the field are made with.
        factor: What the rate is multiplied with at each, in (0, 1].
        warmup: As in `constant`.
    """
    if list(milestones) != sorted(milestones) or not all(0 < m < 1 for m in milestones):
        raise RecipeError(
            f"milestones must be rising shares of the run in (0, 1), got {list(milestones)}."
        )
    number_within(factor, "multi_step: factor", above=0, most=1)
    return _warmed(lambda t: factor ** sum(t >= m for m in milestones), warmup, stretch=False)


def _warmed(schedule: Schedule, warmup: float, *, stretch: bool = True) -> Schedule:
    if not 0 <= warmup < 1:
        raise RecipeError(f"warmup is a share of the run in [0, 1), got {warmup}.")

    def factor(t: float) -> float:
        if t < warmup:
            # Never 0: the first update should do something.
            return schedule(0.0) * (0.01 + 0.99 * t / warmup)
        return schedule((t - warmup) / (1 - warmup) if stretch else t)

    return factor
