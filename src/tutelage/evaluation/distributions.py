"""The distributions that intervals are read from, without SciPy: accurate to about 1e-12."""

import math
from statistics import NormalDist

from tutelage.core.errors import DataError

_TINY = 1e-300


def normal_quantile(level: float) -> float:
    """How many standard deviations to each side hold ``level`` of a normal distribution.

    >>> round(normal_quantile(0.95), 4)
    1.96
    """
    return NormalDist().inv_cdf(0.5 + checked_level(level) / 2)


def student_t_quantile(level: float, freedom: int) -> float:
    """How many standard errors to each side hold ``level`` of Student's t distribution.

    Args:
        level: Two-sided, in (0, 1).
        freedom: Degrees of freedom, at least 1.

    Example:
        >>> round(student_t_quantile(0.95, 2), 3), round(student_t_quantile(0.95, 30), 3)
        (4.303, 2.042)
    """
    outside = 1 - checked_level(level)
    if freedom < 1:
        raise DataError(f"{freedom} degrees of freedom were given: at least 1 is needed.")

    def beyond(t: float) -> float:  # P(|T| > t)
        return regularised_beta(freedom / 2, 0.5, freedom / (freedom + t * t))

    low, high = 0.0, 1.0
    while beyond(high) > outside:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if beyond(middle) > outside else (low, middle)
    return (low + high) / 2


def binomial_half_tail(successes: int, trials: int) -> float:
    """Probability of at most ``successes`` heads in ``trials`` throws of a fair coin.

    >>> round(binomial_half_tail(1, 3), 12)
    0.5
    """
    if successes >= trials:
        return 1.0
    return regularised_beta(trials - successes, successes + 1, 0.5)


def regularised_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction.

    ``I_x(a, b) = x^a (1-x)^b / (a B(a, b)) · 1 / (1 + d1 / (1 + d2 / (1 + ...)))``
    (DLMF 8.17.22), evaluated by Lentz's method on the side where it converges fast.

    >>> round(regularised_beta(1, 1, 0.3), 12), round(regularised_beta(2, 3, 0.5), 12)
    (0.3, 0.6875)
    """
    if not 0 <= x <= 1 or a <= 0 or b <= 0:
        raise DataError(f"I_x(a, b) needs 0 <= x <= 1 and a, b > 0: {a=}, {b=}, {x=} were given.")
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):
        return 1 - regularised_beta(b, a, 1 - x)
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(log_front) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or _TINY)
        c = 1 + term / c or _TINY
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            return value
    raise DataError(f"I_x(a, b) did not converge at {a=}, {b=}, {x=}.")


def checked_level(level: float) -> float:
    """A confidence level in (0, 1), as 0.95."""
    if not 0 < level < 1:
        raise DataError(f"the confidence level is {level}: give a share such as 0.95.")
    return level
