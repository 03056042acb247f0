"""Adapters between vectors and features that have positions."""

from torch import Tensor, nn

from tutelage.core.errors import ShapeMismatch
from tutelage.core.registry import register
from tutelage.objectives.adapters.shapes import require


@register("adapter", "pool")
def pool(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """The mean over all positions, and one learned matrix.

    Args:
        student: ``(N, C, H, W)`` or ``(N, T, D)``.
        teacher: ``(N, D')``.
        bias: Whether to add a learned vector.
    """
    require(teacher, 2, "pool", "teacher")
    return Pool(_width(student, "pool", "student"), teacher.shape[1], bias=bias)


@register("adapter", "spread")
def spread(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """One learned matrix, the same vector at every position of the teacher's feature.

    Under a squared error this teaches what pooling the teacher would, with the variance over
    positions as a constant on top.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, C, H, W)`` or ``(N, T, D')``.
        bias: Whether to add a learned vector.
    """
    require(student, 2, "spread", "student")
    width = _width(teacher, "spread", "teacher")
    return Spread(student.shape[1], width, tuple(teacher.shape[1:]), bias=bias)


def _width(feature: Tensor, adapter: str, whose: str) -> int:
    if feature.ndim not in (3, 4):
        raise ShapeMismatch(
            f"adapter {adapter!r} needs tokens (N, T, D) or maps (N, C, H, W) from the {whose}, "
            f"and got {tuple(feature.shape)}: use adapter auto, or choose another feature."
        )
    return feature.shape[1] if feature.ndim == 4 else feature.shape[2]


class Pool(nn.Module):
    """Mean over positions, then a linear map."""

    def __init__(self, width: int, wanted: int, *, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(width, wanted, bias=bias)

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, C, H, W)`` or ``(N, T, D)`` -> ``(N, D')``."""
        mean = feature.mean((2, 3)) if feature.ndim == 4 else feature.mean(1)
        adapted: Tensor = self.linear(mean)
        return adapted


class Spread(nn.Module):
    """A linear map, then the same at every position."""

    def __init__(self, width: int, wanted: int, shape: tuple[int, ...], *, bias: bool = True):
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(width, wanted, bias=bias)

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, D)`` -> ``(N, *shape)``."""
        adapted: Tensor = self.linear(feature)
        placed = adapted[:, :, None, None] if len(self.shape) == 3 else adapted[:, None, :]
        return placed.expand(-1, *self.shape)
