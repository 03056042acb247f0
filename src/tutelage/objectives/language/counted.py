"""Which units of a linear head count, what each weighs, and what asks for a gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.objectives.units import class_numbers, given, number


def kept_units(mask: Tensor | None, units: torch.Size, hidden: Tensor, asker: str) -> Tensor:
    """Which units count, ``(N * ...,)`` of bool."""
    if mask is None:
        return torch.ones(units, dtype=torch.bool, device=hidden.device).flatten()
    if mask.shape != units[: mask.ndim]:
        raise ShapeMismatch(
            f"{asker} has units of {tuple(units)}, and got a mask of shape {tuple(mask.shape)}: a "
            "mask must have one entry for each unit."
        )
    spread = mask.bool().reshape(mask.shape + (1,) * (len(units) - mask.ndim))
    return spread.expand(units).flatten()


def shares_of(
    kept: Tensor, weights: Tensor | None, count: float | None, dtype: torch.dtype, asker: str
) -> tuple[Tensor, Tensor]:
    """What each computed unit's value is multiplied by, ``(M,)``, and which units those are."""
    if weights is not None:
        if weights.numel() != kept.numel():
            raise ShapeMismatch(
                f"{asker} has {kept.numel()} units, and got weights of shape "
                f"{tuple(weights.shape)}: one for each unit is wanted."
            )
        weights = weights.detach().flatten().to(dtype)
    if count is not None:
        count = number(count, "count", asker, above=0)
    below = kept.sum().clamp(min=1).to(dtype) if count is None else count
    rows = (kept if weights is None else kept & (weights != 0)).nonzero().flatten()
    ones = rows.new_ones(len(rows), dtype=dtype)
    return (ones if weights is None else weights[rows]) / below, rows


def labels_of(
    labels: Tensor | None,
    cross_entropy: float,
    hidden: Tensor,
    classes: int,
    rows: Tensor,
    asker: str,
) -> Tensor | None:
    """Class numbers of the computed units ``(M,)``; None where they have no weight."""
    if cross_entropy == 0:
        if labels is not None:
            raise RecipeError(
                f"{asker}: labels are given, and cross_entropy, their weight, is 0: set it."
            )
        return None
    shape = hidden.new_empty(()).expand(*hidden.shape[:-1], classes)
    return class_numbers(given(labels, asker), shape, asker).flatten()[rows]


def wanted_of(tensors: Sequence[Tensor | None]) -> tuple[bool, bool, bool]:
    """Which of the student's tensors will get a gradient."""
    on = torch.is_grad_enabled()
    hidden, weight, bias = (t is not None and on and t.requires_grad for t in tensors[:3])
    return hidden, weight, bias


def check_own_gradient(weight: Tensor, dtype: torch.dtype, asker: str) -> None:
    """Refuse a weight to whose own gradient nothing can be added."""
    if not weight.is_leaf or weight.dtype != dtype:
        raise RecipeError(
            f"{asker}: into_grad adds to the weight's own gradient in {dtype}, and this weight is "
            f"{weight.dtype}{'' if weight.is_leaf else ' and computed from others'}: leave "
            "into_grad out."
        )
