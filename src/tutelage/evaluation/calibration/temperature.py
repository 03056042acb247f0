"""Temperature scaling: one number that makes a classifier's confidence honest, its answers alike.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.metrics import checked

LOWEST, HIGHEST = 0.01, 100.0
_STEPS, _TOLERANCE = 200, 1e-12


@dataclass(frozen=True)
class Temperature:
    """The number that logits are divided by.

    Attributes:
        value: T: above 1 it takes confidence away, below 1 it adds some.
        low: Lower end of its interval, from the examples it was fitted on.
        high: Upper end.
        examples: How many it was fitted on.
        limit: Why these examples could not determine it (then low and high equal value):
            ``certain``: all but every answer is right, so that the likelihood grows as T falls, and
            T is the lowest allowed; ``lost``: answers are no better than guesses, and T is the
            highest allowed; ``flat``: all classes score the same, T is 1. Empty where determined.
    """

    value: float
    low: float
    high: float
    examples: int
    limit: Literal["", "certain", "lost", "flat"] = ""


def fit_temperature(
    logits: Tensor,
    targets: Tensor,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    level: float = 0.95,
) -> Temperature:
    """The temperature that makes the true classes likeliest: fit it on validation, never on test.

    Minimises ``mean(-log softmax(z / T)[y])``, which is convex in ``1 / T``: its slope
    ``mean(E_p[z] - z_y)`` is brought to 0 in ``log(1 / T)`` by Newton's method inside a bracket,
    with bisection wherever that would leave the bracket or stall. The interval is
    ``T exp(± z s)`` with the sandwich standard error s of ``log T``.

    Args:
        logits: ``(N, C)`` of validation examples; ``-inf`` rules a class out.
        targets: True class numbers ``(N,)``.
        lowest: Bound of T.
        highest: Bound of T.
        level: Confidence of the interval.

    Returns:
        T, and whether the examples determined it.

    Raises:
        DataError: No examples, NaN logits, a true class that is ruled out, or bounds that make no
            sense.

    Example:
        >>> honest = torch.log(torch.tensor([[0.75, 0.25]] * 4))
        >>> round(fit_temperature(3 * honest, torch.tensor([0, 0, 0, 1])).value, 6)
        3.0
    """
    if not 0 < lowest < 1 < highest < math.inf:
        raise DataError(f"bounds {lowest} and {highest}: give 0 < lowest < 1 < highest.")
    logits, targets = checked(logits, targets)
    centred = logits - logits.amax(-1, keepdim=True)
    true = centred.gather(-1, targets[:, None])[:, 0]
    if bool(true.isneginf().any()):
        raise DataError(
            f"{int(true.isneginf().sum())} examples have a true class that the model rules out "
            "(-inf): no temperature mends that."
        )
    allowed = torch.where(centred.isneginf(), 0.0, centred)  # 0 · -inf must count as 0
    total = len(true)
    if not bool(allowed.any()):
        return Temperature(1.0, 1.0, 1.0, total, "flat")

    def slopes(place: float) -> tuple[Tensor, float]:
        """Each example's slope, and the curvature, both by log(1 / T)."""
        beta = math.exp(place)
        p = (beta * centred).softmax(-1)
        mean = (p * allowed).sum(-1)
        spread = (p * (allowed - mean[:, None]).square()).sum(-1)
        return beta * (mean - true), beta * beta * spread.mean().item()

    low, high = -math.log(highest), -math.log(lowest)
    if slopes(high)[0].mean() <= 0:
        return Temperature(lowest, lowest, lowest, total, "certain")
    if slopes(low)[0].mean() >= 0:
        return Temperature(highest, highest, highest, total, "lost")
    place = _root(slopes, low, high)
    each, curvature = slopes(place)
    error = each.square().mean().sqrt().item() / max(curvature, 1e-300) / math.sqrt(total)
    reach = min(normal_quantile(level) * error, math.log(highest / lowest))
    value = math.exp(-place)
    return Temperature(value, value * math.exp(-reach), value * math.exp(reach), total)


def _root(slopes: Callable[[float], tuple[Tensor, float]], low: float, high: float) -> float:
    """Where the mean slope is 0, between a place below 0 slope and one above."""
    place, step = 0.0, high - low
    for _ in range(_STEPS):
        each, curvature = slopes(place)
        slope = each.mean().item()
        if slope == 0 or abs(step) < _TOLERANCE:
            break
        low, high = (place, high) if slope < 0 else (low, place)
        newton = place - slope / curvature if curvature > 0 else math.inf
        safe = low <= newton <= high and abs(newton - place) < abs(step) / 2
        after = newton if safe else (low + high) / 2
        step, place = after - place, after
    return place
