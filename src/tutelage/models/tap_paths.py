"""A path of a feature, parsed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tutelage.core.errors import MissingFeature, suggest
from tutelage.models.attention_calls import SIDES

_FORM = re.compile(
    r"(?P<name>[^():#]+)(?P<call>\(\))?(#(?P<number>\d+))?"
    rf"(:((?P<side>in|out|{'|'.join(SIDES)})(\.(?P<key>\w+))?))?"
)


@dataclass(frozen=True)
class Place:
    """One parsed path; the grammar is at the top of `tutelage.models.taps`."""

    path: str
    name: str
    function: bool
    number: int | None
    side: str
    key: str

    @staticmethod
    def parse(path: str) -> "Place":
        """What a path means; `MissingFeature` where it means nothing."""
        found = _FORM.fullmatch(path) if isinstance(path, str) else None
        if not found or (found["call"] and found["side"] in SIDES):
            raise MissingFeature(
                f"{path!r} is no feature path: write 'layer3', 'layer3:in', or 'relu()#2'."
            )
        function, number = found["call"] is not None, found["number"]
        return Place(
            path=path,
            name=found["name"],
            function=function,
            number=int(number) if number else (0 if function else None),
            side=found["side"] or "out",
            key=found["key"] or "0",
        )

    @property
    def inward(self) -> bool:
        """Whether it is what was given, and not what was returned."""
        return self.side == "in"

    @property
    def attends(self) -> bool:
        """Whether it is a part of the attention that runs inside a module."""
        return self.side in SIDES

    def pick(self, args: Any, kwargs: Mapping[str, Any], returned: Any) -> Tensor:
        """The tensor meant, out of what a module or function was given and returned."""
        side = "given" if self.inward else "returned"
        if not self.key.isdigit():
            named = kwargs if self.inward else returned
            known = named if isinstance(named, Mapping) else {}
            value = known.get(self.key)
            if not isinstance(value, Tensor):
                names = [name for name, one in known.items() if isinstance(one, Tensor)]
                raise MissingFeature(
                    f"feature {self.path!r}: {self.name!r} was {side} no tensor by the name of "
                    f"{self.key!r}. {suggest(self.key, names)}"
                )
            return value
        tensors = list(_tensors((args, kwargs) if self.inward else returned))
        if int(self.key) >= len(tensors):
            raise MissingFeature(
                f"feature {self.path!r}: {self.name!r} was {side} {len(tensors)} tensors "
                f"(counted from 0), so there is no number {self.key}."
            )
        return tensors[int(self.key)]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _tensors(inner)
