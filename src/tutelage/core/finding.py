"""What a look at data or models has found, in words for people."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["fine", "notice", "warning"]


@dataclass(frozen=True)
class Finding:
    """What was found, in one sentence for people.

    Attributes:
        status: ``warning``: look at it before you go on; ``notice``: know it; ``fine``.
        text: One or two plain sentences with the figure that they rest on.
        examples: Which examples it is about, as people find them: ``"train 17"``, a file's name.
            The first ones where there are many.
    """

    status: Status
    text: str
    examples: tuple[str, ...] = ()
