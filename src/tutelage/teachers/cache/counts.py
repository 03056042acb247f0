"""What was asked of a cache, and how it was filled."""

from dataclasses import dataclass


@dataclass
class Counts:
    """What was asked of a cache.

    Attributes:
        found: Answers that were kept already.
        asked: Examples that the live teacher answered.
        stored: Answers written.
    """

    found: int = 0
    asked: int = 0
    stored: int = 0


@dataclass(frozen=True)
class Filled:
    """How a cache was filled.

    Attributes:
        answers: Kept in it now, over all views.
        asked: Of them those that the teacher was asked for just now.
        seconds: How long that took.
        bytes: Of all files.
        record: Bytes of one answer.
        torn: Broken records that were met, and made anew.
    """

    answers: int
    asked: int
    seconds: float
    bytes: int
    record: int
    torn: int
