"""Adapters over the last dimension."""

from torch import Tensor, nn

from tutelage.core.errors import ShapeMismatch
from tutelage.core.registry import register


@register("adapter", "identity")
def identity(student: Tensor, teacher: Tensor) -> nn.Module:
    """The student's feature as it is: for equal shapes.

    Args:
        student: Its feature.
        teacher: A feature of the same shape.

    Raises:
        ShapeMismatch: The shapes differ.
    """
    if student.shape != teacher.shape:
        raise ShapeMismatch(
            f"without an adapter the student's feature {tuple(student.shape)} must have the "
            f"teacher's shape {tuple(teacher.shape)}: use adapter auto."
        )
    return nn.Identity()


@register("adapter", "linear")
def linear(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """One learned matrix over the last dimension: ``(N, ..., D)`` -> ``(N, ..., D')``.

    Args:
        student: ``(N, ..., D)``.
        teacher: ``(N, ..., D')``.
        bias: Whether to add a learned vector (teacher features after a ReLU have a mean).
    """
    return nn.Linear(student.shape[-1], teacher.shape[-1], bias=bias)
