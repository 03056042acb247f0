"""All splits side by side, and how an example is called when people are told of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.sets import Examples
from tutelage.data.splits import Splits

SPLITS = ("train", "validation", "test")
SHOWN = 20
"""Examples that a finding names."""


@dataclass(frozen=True)
class Pool:
    """The examples of all splits in one row of positions: train, validation, test.

    Attributes:
        sets: The three sets.
        split: For each position the number of its split ``(N,)``.
        ids: Its example number ``(N,)``.
        targets: Its class ``(N,)``, negative where unlabelled.
        files: The file of an example number, where it is known.
    """

    sets: Sequence[Examples]
    split: Tensor
    ids: Tensor
    targets: Tensor
    files: Mapping[int, str]

    @classmethod
    def of(cls, splits: Splits, files: Mapping[int, str] | None = None) -> "Pool":
        """The pool of ``splits``: opens the test set, for the audit."""
        sets = (splits.train, splits.validation, splits.test.open("the audit"))
        split = torch.cat([torch.full((len(s),), number) for number, s in enumerate(sets)])
        unknown = [torch.full((len(s),), -1) if s.targets is None else s.targets for s in sets]
        ids = torch.cat([s.ids for s in sets])
        return cls(sets, split, ids, torch.cat(unknown), files or {})

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tables(self) -> bool:
        """Whether examples are rows of a table, not images."""
        return len(self.sets[0].example_shape) != 3

    def sizes(self) -> dict[str, int]:
        """How many examples each split has."""
        return dict(zip(SPLITS, map(len, self.sets), strict=True))

    def call(self, position: int) -> str:
        """What people find an example by: split and file, or split and number."""
        number = int(self.ids[position])
        return f"{SPLITS[int(self.split[position])]} {self.files.get(number, number)}"

    def called(self, positions: Tensor) -> tuple[str, ...]:
        """The first `SHOWN` of them."""
        return tuple(map(self.call, positions[:SHOWN].tolist()))

    def read(self, positions: Tensor) -> Tensor:
        """The stored inputs at ``positions``, in their order."""
        starts = torch.tensor([0, *map(len, self.sets)]).cumsum(0)
        found: list[tuple[Tensor, Tensor]] = []
        for number, examples in enumerate(self.sets):
            inside = (self.split[positions] == number).nonzero().flatten()
            if len(inside):
                found.append((inside, examples.fetch(positions[inside] - starts[number])))
        order = torch.cat([places for places, _ in found]).argsort()
        return torch.cat([inputs for _, inputs in found])[order]

    def rows_of(self, split: str) -> Tensor:
        """The positions of a split."""
        return (self.split == SPLITS.index(split)).nonzero().flatten()


Told = Callable[[str], None]
