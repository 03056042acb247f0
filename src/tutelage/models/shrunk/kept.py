"""Which heads, units and channels stay, and tensors with only these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import ModelError
from tutelage.models.shrunk.families import Axes, Family, axes_of

Wish = int | Sequence[Sequence[int]] | None
"""How many stay in each block, or which, block by block; None for all."""

Units = list[Tensor] | None
"""Numbers that stay, block by block; None for all."""


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
            if isinstance(stay, list):
                stay = stay[_block(name)]
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
) -> Units:
    """Numbers of what stays in each block.

    Args:
        option: What messages call it.
        wish: How many, or which.
        blocks: How many blocks there are.
        total: How many there are in each.
        scores: ``(blocks, total)``; what matters most stays, the earlier of equal ones.
        share: How many go together: heads of queries with one head of keys and values.

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
    return _listed(option, wish, blocks, total, share)


def rows_of_heads(heads: Units, size: int, share: int = 1) -> Units:
    """Rows that belong to heads; with ``share``, those of the groups that heads belong to.

    >>> rows_of_heads([torch.tensor([2, 3])], 2)
    [tensor([4, 5, 6, 7])]
    >>> rows_of_heads([torch.tensor([2, 3])], 2, share=2)
    [tensor([2, 3])]
    """
    if heads is None:
        return None
    groups = [torch.unique(each // share) for each in heads]
    return [(each[:, None] * size + torch.arange(size)).flatten() for each in groups]


def _listed(option: str, wish: Any, blocks: int, total: int, share: int) -> list[Tensor]:
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
            f"{option}: what stays is said by how many, or for each of {blocks} blocks by as many "
            f"rising numbers from 0 to {total - 1}{groups}, got {str(wish)[:100]}."
        )
    return [torch.tensor(each) for each in lists]


def _block(name: str) -> int:
    """The number of the block that a parameter is in.

    >>> _block("encoder.layer.3.output.dense.weight")
    3
    """
    return next(int(word) for word in name.split(".") if word.isdigit())
