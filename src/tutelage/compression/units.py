"""Units that several layers know of, how much they matter, and how they are taken out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError

Side = Literal["out", "in"]
Lost = dict[tuple[str, Side], list[int]]
"""What layers lose: numbers of outputs or inputs, by path and side."""
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
KNOWN = (nn.Conv2d, nn.Linear, *NORMS)
"""The layers whose units can be taken out."""


@dataclass(frozen=True)
class Member:
    """A layer that knows of a group's units.

    Attributes:
        path: Its name in the model.
        side: Whether the units are its outputs or its inputs.
        rows: Their numbers among these.
        units: For each of them, the unit of the group that it is.
    """

    path: str
    side: Side
    rows: list[int]
    units: list[int]


@dataclass
class Coupled:
    """Units that several layers make or read, and that are taken out of all or of none.

    Attributes:
        path: The first layer that makes them.
        count: How many there are.
        members: All layers that know of them.
    """

    path: str
    count: int
    members: list[Member] = field(default_factory=list)


def by_channel(module: nn.Module) -> bool:
    """Whether it is a convolution that hands each channel on by itself."""
    return isinstance(module, nn.Conv2d) and module.groups == module.out_channels > 1


def scores_of(model: nn.Module, group: Coupled, importance: str) -> Tensor:
    """How much each unit of a group matters ``(count,)``, summed over the layers that make it.

    Raises:
        ModelError: ``gamma`` is asked for and no normalisation has a weight for these units.
    """
    total = torch.zeros(group.count)
    counted = False
    for member in group.members:
        module: Any = model.get_submodule(member.path)
        norm = isinstance(module, NORMS)
        if member.side == "in" or norm != (importance == "gamma") or module.weight is None:
            continue
        weight = module.weight.detach().float().cpu()
        sizes = weight.reshape(len(weight), -1).abs().pow(2 if importance == "l2" else 1).sum(1)
        total.index_add_(0, torch.tensor(member.units), sizes[member.rows])
        counted = True
    if not counted:
        raise ModelError(
            f"{group.path!r} has no normalisation with weights after it, so gamma says nothing of "
            "its units: take importance l1 or l2."
        )
    return total.sqrt() if importance == "l2" else total


def lost_of(groups: Iterable[tuple[Coupled, Tensor]]) -> Lost:
    """What each layer loses on each side, when each group keeps only these units."""
    lost: Lost = {}
    for group, kept in groups:
        stays = set(kept.tolist())
        for member in group.members:
            pairs = zip(member.rows, member.units, strict=True)
            rows = [row for row, unit in pairs if unit not in stays]
            lost.setdefault((member.path, member.side), []).extend(rows)
    return lost


def silence(model: nn.Module, lost: Lost) -> None:
    """Have the readers take nothing of these inputs."""
    with torch.no_grad():
        for (path, side), rows in lost.items():
            if side == "in":
                layer: Any = model.get_submodule(path)
                layer.weight[:, rows] = 0


def narrow(model: nn.Module, lost: Lost) -> None:
    """Cut these outputs and inputs out of all tensors."""
    for (path, side), rows in lost.items():
        layer: Any = model.get_submodule(path)
        dim = 1 if side == "in" else 0
        total = layer.num_features if isinstance(layer, NORMS) else layer.weight.shape[dim]
        gone = set(rows)
        kept = torch.tensor([row for row in range(total) if row not in gone])
        inputs, outputs = ("weight",), ("weight", "bias", "running_mean", "running_var")
        for name in inputs if side == "in" else outputs:
            _cut(layer, name, kept, dim)
        _count(layer, side, len(kept))


def _cut(module: nn.Module, name: str, rows: Tensor, dim: int) -> None:
    tensor = getattr(module, name, None)
    if tensor is None:
        return
    kept = tensor.detach().index_select(dim, rows.to(tensor.device)).clone()
    if isinstance(tensor, nn.Parameter):
        kept = nn.Parameter(kept, requires_grad=tensor.requires_grad)
    setattr(module, name, kept)


def _count(layer: Any, side: Side, left: int) -> None:
    if isinstance(layer, NORMS):
        layer.num_features = left
    elif isinstance(layer, nn.Linear):
        setattr(layer, f"{side}_features", left)
    elif by_channel(layer):
        layer.in_channels = layer.out_channels = layer.groups = left
    else:
        setattr(layer, f"{side}_channels", left)
