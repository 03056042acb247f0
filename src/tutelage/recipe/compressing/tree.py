"""Ways with equal beginnings are one tree: what they share is made once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.core.errors import RecipeError
from tutelage.recipe.compressing.stages import Stage

STUDENT = "student"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


@dataclass(frozen=True)
class Node:
    """One step of one or more ways, and the file that it ends in.

    Attributes:
        name: Of its file, without the ending: the way's where that ends here, else the first
            way's with the stages so far: ``narrow-prune``.
        before: The step before, by name; None where the student itself is.
        stages: All stages from the student on.
        ends: Whether a way ends here.
    """

    name: str
    before: str | None
    stages: tuple[Stage, ...]
    ends: bool

    @property
    def stage(self) -> Stage:
        """What is done at this step."""
        return self.stages[-1]


def nodes_of(ways: Mapping[str, tuple[Stage, ...]]) -> list[Node]:
    """Every step once, each after the one that it needs.

    Raises:
        RecipeError: A way has the name of another thing, or the stages of another way.
    """
    ends: dict[tuple[str, ...], str] = {}
    for way, stages in ways.items():
        _check_name(way)
        place = _place(stages)
        if place in ends:
            raise RecipeError(
                f"compress.ways.{way}: its stages are those of {ends[place]!r}: remove one of them."
            )
        ends[place] = way
    found: dict[tuple[str, ...], Node] = {}
    for way, stages in ways.items():
        for count in range(1, len(stages) + 1):
            place = _place(stages[:count])
            if place in found:
                continue
            step = "-".join([way, *(stage.written for stage in stages[:count])])
            before = found[place[:-1]].name if count > 1 else None
            node = Node(ends.get(place, step), before, stages[:count], place in ends)
            found[place] = node
    _check_different(list(found.values()))
    return list(found.values())


def _place(stages: tuple[Stage, ...]) -> tuple[str, ...]:
    return tuple(stage.content for stage in stages)


def _check_name(way: str) -> None:
    if not _NAME.fullmatch(way):
        raise RecipeError(
            f"compress.ways: got the name {way!r:.80}: write letters, digits, '.', '_' and '-' "
            "only, a letter or digit first, at most 60."
        )
    if way.lower() == STUDENT:
        raise RecipeError(
            f"compress.ways.{way}: this is what the student itself is called: choose another name."
        )


def _check_different(nodes: list[Node]) -> None:
    seen: set[str] = set()
    for node in nodes:
        if node.name.lower() in seen:
            raise RecipeError(
                f"compress.ways.{node.name}: two files would have this name: choose another."
            )
        seen.add(node.name.lower())
