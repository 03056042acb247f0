"""From what a server tells at one place to the k likeliest tokens and the mass of all others."""

import math
from dataclasses import dataclass

from tutelage.core.errors import ServerError
from tutelage.teachers.remote.telling import Told

_LEAST = 1e-9
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Sparse:
    """One place's answer.

    Attributes:
        top: Numbers of the k tokens, likeliest first.
        log_p: Their log-probabilities.
        log_tail: Log of the probability of all others together.
    """

    top: tuple[int, ...]
    log_p: tuple[float, ...]
    log_tail: float


def sparse_of(told: Told, k: int, classes: int) -> Sparse:
    r"""The k likeliest of what was told, and the rest of the mass as it is.

    ``log_tail = log(1 - sum_i p_i)`` over the k that are kept, with ``p_i`` as told: never
    renormalised. So a candidate that was told and is not kept (the text's own token, beyond the
    k likeliest), one without a number, and all that was not told, are in the tail. Where fewer
    than k have a number, the others' places go to tokens that were not told, each with the mean
    share of the tail: that is what the tail says of them anyway.

    Args:
        told: Candidates at one place.
        k: How many are kept.
        classes: How many tokens there are.

    Raises:
        ServerError: They are no log-probabilities of one distribution.

    Example:
        >>> from math import exp, log
        >>> kept = sparse_of([(3, log(0.6)), (1, log(0.3)), (7, log(0.01))], 2, 10)
        >>> kept.top, round(exp(kept.log_tail), 6)
        ((3, 1), 0.1)
    """
    if any(math.isnan(p) or p > _ROUNDING for _, p in told):
        raise ServerError(
            "the server tells numbers that are no log-probabilities: above 0, or NaN."
        )
    known = {number: p for number, p in told if number is not None and 0 <= number < classes}
    best = sorted(known.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    mass = math.fsum(math.exp(p) for _, p in best)
    if mass > 1 + _ROUNDING:
        raise ServerError(
            f"the probabilities that the server tells at a place add up to {mass:.4f}: they are "
            "those of no distribution at temperature 1."
        )
    tail = max(1.0 - mass, _LEAST)
    if (lacking := k - len(best)) > 0:
        share = tail / (classes - len(best))
        free = (number for number in range(classes) if number not in known)
        best += [(number, math.log(share)) for number, _ in zip(free, range(lacking), strict=False)]
        tail = max(tail - lacking * share, _LEAST)
    return Sparse(tuple(n for n, _ in best), tuple(p for _, p in best), math.log(tail))
