"""A plan from what a caller of one linear head asks for, and the loss that comes of it."""

from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import ShapeMismatch
from tutelage.core.reduce import full_precision
from tutelage.objectives.language.counted import (
    check_own_gradient,
    kept_units,
    labels_of,
    shares_of,
    wanted_of,
)
from tutelage.objectives.language.divergences import parts_of
from tutelage.objectives.language.one_pass import Heads, OnePass, Plan
from tutelage.objectives.language.tiles import tile_height
from tutelage.objectives.units import number, whole


def check_head(whose: str, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse a head that does not read ``hidden`` ``(..., H)``.

    Raises:
        ShapeMismatch: The weight is not ``(C, H)``, or the bias not ``(C,)``.
    """
    if weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ShapeMismatch(
            f"the {whose}'s head {tuple(weight.shape)} does not read its hidden states "
            f"(..., {hidden.shape[-1]}): a head is (classes, width), and reads what stands before "
            "it."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeMismatch(
            f"the {whose}'s bias {tuple(bias.shape)} does not belong to its head "
            f"{tuple(weight.shape)}."
        )


def plan_of(
    hidden: Tensor,
    weight: Tensor,
    classes: int,
    asker: str,
    *,
    divergence: str,
    alpha: float | None,
    beta: float | None,
    temperature: float,
    mask: Tensor | None,
    weights: Tensor | None,
    labels: Tensor | None,
    cross_entropy: float,
    count: float | None,
    tile_rows: int | None,
    into_grad: float | None,
) -> Plan:
    """What is computed for a student's hidden states ``(N, ..., H)`` and head ``(V, H)``.

    Args:
        hidden: The student's.
        weight: Of its head.
        classes: C, how many of its rows take part.
        asker: In whose name options are refused.
        divergence: As of `tutelage.objectives.linear_divergence`, and so all that follow.
        alpha: Option of some divergences.
        beta: Option of some divergences.
        temperature: T > 0.
        mask: Which units count.
        weights: What each weighs.
        labels: Class numbers.
        cross_entropy: Weight of theirs.
        count: The denominator.
        tile_rows: Rows of a tile.
        into_grad: Factor of the loss, where the weight's gradient is added at once.

    Raises:
        ShapeMismatch: Mask or weights do not belong to the units.
        RecipeError: An option is outside its range, or ``into_grad`` cannot be used here.
        DataError: Labels are missing, or one of them is beyond the classes.
    """
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    kept = kept_units(mask, hidden.shape[:-1], hidden, asker)
    shares, rows = shares_of(kept, weights, count, dtype, asker)
    if into_grad is not None:
        into_grad = number(into_grad, "into_grad", asker)
        check_own_gradient(weight, dtype, asker)
    height = tile_height(classes, dtype.itemsize)
    if tile_rows is not None:
        height = whole(tile_rows, "tile_rows", asker)
    return Plan(
        parts=parts_of(divergence, alpha, beta, asker),
        temperature=number(temperature, "temperature", asker, above=0),
        classes=classes,
        rows=rows,
        shares=shares,
        labels=labels_of(labels, cross_entropy, hidden, classes, rows, asker),
        cross_entropy=number(cross_entropy, "cross_entropy", asker, least=0),
        height=height,
        dtype=dtype,
        into_grad=into_grad,
    )


def carried_out(plan: Plan, heads: Heads) -> Tensor:
    """The loss of a plan, a scalar whose gradients are there already."""
    given: tuple[Any, ...] = tuple(heads)
    with full_precision(heads.student_hidden):
        loss: Tensor = OnePass.apply(plan, wanted_of(heads), *given)  # type: ignore[no-untyped-call]
    return loss
