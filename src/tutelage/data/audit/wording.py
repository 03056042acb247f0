"""Small words of an audit's sentences."""

from collections.abc import Iterable, Sequence

from tutelage.core.finding import Finding, Status

FEW, SHARE = 3, 0.001
"""From how many examples, and which share of all, on a finding is a warning."""
_ORDER = ("warning", "notice", "fine")


def weight(count: int, of: int) -> Status:
    """A warning where there are enough to matter, else a notice.

    >>> weight(2, 100), weight(25, 2_000), weight(25, 1_000_000)
    ('notice', 'warning', 'notice')
    """
    return "warning" if count >= FEW and count / of >= SHARE else "notice"


def worst_first(told: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings, warnings first."""
    return tuple(sorted(told, key=lambda one: _ORDER.index(one.status)))


def examples(count: int) -> str:
    """``1 example``, ``2 examples``."""
    return f"{count:,} example{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """``is`` or ``are``."""
    return "is" if count == 1 else "are"


def files(count: int) -> str:
    """``1 file``, ``2 files``."""
    return f"{count:,} file{'' if count == 1 else 's'}"


def some(names: Sequence[str], count: int | None = None) -> str:
    """The first six of them, and how many more there are.

    >>> some(["a", "b"]), some(["a"] * 6, 40)
    ('a; b', 'a; a; a; a; a; a and 34 more')
    """
    rest = (len(names) if count is None else count) - min(6, len(names))
    return "; ".join(names[:6]) + (f" and {rest:,} more" if rest else "")
