"""Which heads, units and channels stay, and tensors with only these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import ModelError
from tutelage.models.shrunk.families import axes_of
from tutelage.models.shrunk.family import Axes, Family

Wish = int | Sequence[Sequence[int]] | None
"""How many stay in each block, or which, block by block; None for all."""

Units = Mapping[str, Tensor] | None
"""Numbers that stay, by the path of a part of a block; None for all."""


@dataclass(frozen=True)
class Kept:
    """What stays of each axis.

    Attributes:
        hidden: Numbers of channels, the same everywhere; None for all.
        heads: Numbers of heads of queries.
        neurons: Numbers of inner units.
        queries: Rows of the projection of queries.
        groups: Rows of those of keys and values.
        vocabulary: Numbers of tokens.
    """

    hidden: Tensor | None = None
    heads: Units = None
    neurons: Units = None
    queries: Units = None
    groups: Units = None
    vocabulary: Tensor | None = None

    def cut(self, axes: Axes, name: str, tensor: Tensor) -> Tensor:
        """A tensor of the name and axes given, with what stays."""
        for dimension, axis in enumerate(axes[: tensor.ndim]):
            stay: Any = None if axis is None else getattr(self, axis)
            if isinstance(stay, Mapping):
                stay = stay[_part(name, stay)]
            if stay is not None:
                tensor = tensor.index_select(dimension, stay.to(tensor.device))
        return tensor


def cut_state(model: Any, family: Family, kept: Kept) -> dict[str, Tensor]:
    """All tensors of a model, with what stays."""
    return {
        name: kept.cut(axes_of(family, name), name, tensor)
        for name, tensor in model.state_dict().items()
    }


def units(
    option: str,
    wish: Wish,
    blocks: int,
    total: int,
    scores: Tensor | None,
    share: int = 1,
    where: str = "blocks",
) -> list[Tensor] | None:
    """Numbers of what stays in each block.

    Args:
        option: What messages call it.
        wish: How many, or which.
        blocks: How many blocks there are.
        total: How many there are in each.
        scores: ``(blocks, total)``; what matters most stays, the earlier of equal ones.
        share: How many go together: heads of queries with one head of keys and values.
        where: What messages call the blocks.

    Raises:
        ModelError: It does not fit.

    Example:
        >>> units("mlp", 2, 1, 3, torch.tensor([[0.1, 0.3, 0.2]]))
        [tensor([1, 2])]
    """
    if wish is None:
        return None
    if isinstance(wish, int) and not isinstance(wish, bool):
        if not 1 <= wish <= total or wish % share:
            together = f" that {share} divides (whole groups)" if share > 1 else ""
            raise ModelError(
                f"{option}: there are {total}, and {wish} were to stay: give a number from {share} "
                f"to {total}{together}."
            )
        assert scores is not None
        order = scores.sort(dim=1, descending=True, stable=True).indices
        return [row[:wish].sort().values for row in order]
    return _listed(option, wish, blocks, where, total, share)


def rows_of_heads(heads: Units, size: int, share: int = 1) -> Units:
    """Rows that belong to heads; with ``share``, those of the groups that heads belong to.

    >>> rows_of_heads({"attention": torch.tensor([2, 3])}, 2)
    {'attention': tensor([4, 5, 6, 7])}
    >>> rows_of_heads({"attention": torch.tensor([2, 3])}, 2, share=2)
    {'attention': tensor([2, 3])}
    """
    if heads is None:
        return None
    groups = {part: torch.unique(each // share) for part, each in heads.items()}
    within = torch.arange(size)
    return {part: (each[:, None] * size + within).flatten() for part, each in groups.items()}


def _listed(
    option: str, wish: Any, blocks: int, where: str, total: int, share: int
) -> list[Tensor]:
    lists = [list(each) for each in wish] if isinstance(wish, Sequence) else []
    fit = all(
        each == sorted(set(each)) and each and 0 <= each[0] <= each[-1] < total for each in lists
    )
    alike = len({len(each) for each in lists}) == 1
    together = fit and all(
        each[at : at + share] == list(range(each[at], each[at] + share)) and each[at] % share == 0
        for each in lists
        for at in range(0, len(each), share)
    )
    if len(lists) != blocks or not (fit and alike and together):
        groups = f", in whole groups of {share}" if share > 1 else ""
        raise ModelError(
            f"{option}: what stays is said by how many, or for each of {blocks} {where} by as "
            f"many rising numbers from 0 to {total - 1}{groups}, got {str(wish)[:100]}."
        )
    return [torch.tensor(each) for each in lists]


def _part(name: str, parts: Mapping[str, Any]) -> str:
    """The part that a parameter is in, of those given by path.

    >>> _part("layers.3.mlp.up_proj.weight", {"layers.3.mlp": 0})
    'layers.3.mlp'
    """
    while name and name not in parts:
        name = name.rpartition(".")[0]
    return name
