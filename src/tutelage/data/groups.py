"""Groups that examples belong to: sex, a camera, a hospital; whatever figures are cut by."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.data.columns import Table, is_number

MOST_GROUPS = 64
"""Different values up to which a column is one of groups."""


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
        """Groups by the words of a column, sorted (numbers by size); "" is "not known"."""
        found = {value for value in values if value}
        names = tuple(sorted(found, key=float) if all(map(is_number, found)) else sorted(found))
        places = {value: place for place, value in enumerate(names)}
        numbers = torch.tensor([places.get(value, -1) for value in values], dtype=torch.long)
        return cls(name, names, ids, numbers)

    def of(self, ids: Tensor) -> Tensor:
        """The group numbers ``(M,)`` of these ids; -1 for an id that is not known."""
        order = self.ids.argsort()
        known = self.ids[order]
        places = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        return torch.where(known[places] == ids, self.numbers[order][places], -1)

    def balanced(self, ids: Tensor, targets: Tensor) -> Tensor:
        r"""Weights of examples under which every cell (group, class) counts the same.

        .. math:: w_n = \frac{N}{K \, N_{g(n), y(n)}}

        with N known examples in K cells that are not empty: their mean is 1 over these examples.
        An example of no known group, or without a label, has weight 1.

        Args:
            ids: Example numbers ``(N,)``, of the training set, say.
            targets: Their class numbers ``(N,)``, negative where unlabelled.

        Returns:
            ``(N,)`` of float32.

        Example:
            >>> sex = Groups("sex", ("F", "M"), torch.arange(4), torch.tensor([0, 0, 0, 1]))
            >>> sex.balanced(torch.arange(4), torch.zeros(4, dtype=torch.long))
            tensor([0.6667, 0.6667, 0.6667, 2.0000])

        Paper: Kamiran and Calders, Data preprocessing techniques for classification without
        discrimination, 2012; here cells are made equal, not merely independent of the class.
        """
        if ids.shape != targets.shape:
            raise DataError(
                f"{tuple(ids.shape)} ids and {tuple(targets.shape)} targets were given: one class "
                "number for each id is needed."
            )
        numbers = self.of(ids)
        weights = torch.ones(len(ids))
        known = (numbers >= 0) & (targets >= 0)
        if bool(known.any()):
            cells = numbers[known] * (int(targets.max()) + 1) + targets[known]
            sizes = torch.bincount(cells)
            weights[known] = len(cells) / ((sizes > 0).sum() * sizes[cells].float())
        return weights


def by_columns(tables: Sequence[Table], columns: Sequence[str]) -> dict[str, Groups]:
    """Columns as groups; rows are numbered on through the tables, as ids.

    Args:
        tables: Of the same columns: train, then test.
        columns: Which; missing cells are "not known".

    Raises:
        DataError: A column has no known value, or more than 64 different ones.
    """
    found = {}
    for name in dict.fromkeys(columns):
        cells = [
            "" if cell in table.missing else cell for table in tables for cell in table.column(name)
        ]
        groups = Groups.from_values(name, cells, torch.arange(len(cells)))
        if not 1 <= len(groups.names) <= MOST_GROUPS:
            raise DataError(
                f"groups column {name!r} of {tables[0].path!r} has {len(groups.names)} different "
                f"values, expected 1 to {MOST_GROUPS}: give a column of few, such as age bands."
            )
        found[name] = groups
    return found
