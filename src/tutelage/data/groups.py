"""Groups that examples belong to: sex, a camera, a hospital; whatever figures are cut by."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError


@dataclass(frozen=True)
class Groups:
    """One way to part examples, by their ids.

    Attributes:
        name: Of the way: ``"sex"``.
        names: Of the groups, in the order of their numbers: ``("Female", "Male")``.
        ids: Example numbers ``(N,)`` of int64, all different, in any order.
        numbers: The group of each id ``(N,)`` of int64; negative where it is not known.

    Raises:
        DataError: The shapes differ, ids repeat, or a number has no name.

    Example:
        >>> sex = Groups("sex", ("F", "M"), torch.tensor([5, 7, 9]), torch.tensor([0, 1, -1]))
        >>> sex.of(torch.tensor([9, 5, 4]))
        tensor([-1,  0, -1])
    """

    name: str
    names: tuple[str, ...]
    ids: Tensor
    numbers: Tensor

    def __post_init__(self) -> None:
        if self.ids.shape != self.numbers.shape or self.ids.ndim != 1 or not len(self.ids):
            raise DataError(
                f"groups {self.name!r} have ids of shape {tuple(self.ids.shape)} and numbers of "
                f"shape {tuple(self.numbers.shape)}: one number for each id, (N,), is needed."
            )
        if bool((self.ids.sort().values.diff() == 0).any()):
            raise DataError(f"groups {self.name!r} name an id twice: an example is in one group.")
        if int(self.numbers.max()) >= len(self.names):
            raise DataError(
                f"groups {self.name!r} have the number {int(self.numbers.max())}, and "
                f"{len(self.names)} names: number them from 0."
            )

    @classmethod
    def from_values(cls, name: str, values: Sequence[str], ids: Tensor) -> "Groups":
        """Groups by the words of a column; the empty word is "not known"."""
        names = tuple(sorted({value for value in values if value}))
        places = {value: place for place, value in enumerate(names)}
        numbers = torch.tensor([places.get(value, -1) for value in values], dtype=torch.long)
        return cls(name, names, ids, numbers)

    def of(self, ids: Tensor) -> Tensor:
        """The group numbers ``(M,)`` of these ids; -1 for an id that is not known."""
        order = self.ids.argsort()
        known = self.ids[order]
        places = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        return torch.where(known[places] == ids, self.numbers[order][places], -1)
