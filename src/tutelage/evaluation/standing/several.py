"""Many comparisons at once: what may still be claimed of one, and how bad the worst of all is."""

from collections.abc import Sequence

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import Interval


def holm(p: Sequence[float]) -> list[float]:
    """Probabilities of many tests, each raised so that all may be read together.

    The smallest of m is multiplied by m, the next by m - 1, and so on, never below the one before
    and never above 1. To call every test below 0.05 a finding then raises any false alarm in at
    most 5 % of reports, whatever the tests have in common; Bonferroni's rule finds less.

    Args:
        p: One probability a test, in any order.

    Returns:
        The raised ones, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Paper: Holm, Scandinavian Journal of Statistics 6:65, 1979.
    """
    if not all(0 <= one <= 1 for one in p):
        raise DataError(f"probabilities from 0 to 1 are needed, got {list(p)}.")
    raised, before = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        before = max(before, min(1.0, (len(p) - rank) * p[place]))
        raised[place] = before
    return raised


def largest(plain: Sequence[Interval], strict: Sequence[Interval]) -> Interval:
    """The largest of several figures, with a range that allows for having looked for it.

    The largest of many measured figures flatters nobody: it is the largest partly by luck. Its
    lower end is the largest lower end at a level that allows for all (Bonferroni). Its upper end
    is the largest upper end at the plain level: the figure that is truly the largest is one and
    the same whatever was measured, and its own interval covers it (Berger, Technometrics 1982).

    Args:
        plain: Intervals at the wanted level.
        strict: The same at ``1 - (1 - level) / number``.

    Example:
        >>> from tutelage.evaluation.intervals import wilson
        >>> shares = [(5, 100), (9, 100)]
        >>> found = largest(*[[wilson(*s, level=at) for s in shares] for at in (0.95, 0.975)])
        >>> found.mean, round(found.low, 3), round(found.high, 3)
        (0.09, 0.044, 0.162)
    """
    if not plain or len(plain) != len(strict):
        raise DataError(
            f"{len(plain)} and {len(strict)} intervals were given: one at each level for every "
            "figure is needed, of one figure at least."
        )
    return Interval(
        max(one.mean for one in plain),
        max(one.low for one in strict),
        max(one.high for one in plain),
        plain[0].level,
        f"{plain[0].method}, the largest of {len(plain)}",
    )


def smallest(plain: Sequence[Interval], strict: Sequence[Interval]) -> Interval:
    """The smallest of several figures, with its range: `largest` with the ends changed over."""
    turned = largest(*([_turned(one) for one in many] for many in (plain, strict)))
    method = turned.method.replace("largest", "smallest")
    return Interval(-turned.mean, -turned.high, -turned.low, turned.level, method)


def strictly(level: float, many: int) -> float:
    """The level of each of so many intervals that together are to hold with ``level``.

    >>> round(strictly(0.95, 10), 4)
    0.995
    """
    return 1 - (1 - level) / max(many, 1)


def _turned(one: Interval) -> Interval:
    return Interval(-one.mean, -one.high, -one.low, one.level, one.method)
