"""Adapters of maps."""

from torch import Tensor, nn

from tutelage.core.registry import register
from tutelage.objectives.adapters.shapes import Size, require, resize


@register("adapter", "conv1x1")
def conv1x1(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """A 1x1 convolution over channels: ``(N, C, H, W)`` -> ``(N, C', H, W)``.

    Args:
        student: ``(N, C, H, W)``.
        teacher: ``(N, C', H, W)``.
        bias: Whether to add a learned vector.
    """
    require(student, 4, "conv1x1", "student")
    require(teacher, 4, "conv1x1", "teacher")
    return nn.Conv2d(student.shape[1], teacher.shape[1], kernel_size=1, bias=bias)


@register("adapter", "spatial")
def spatial(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """A 1x1 convolution, and the teacher's height and width: ``(N, C', H', W')``.

    Args:
        student: ``(N, C, H, W)``.
        teacher: ``(N, C', H', W')``.
        bias: Whether to add a learned vector.
    """
    require(student, 4, "spatial", "student")
    require(teacher, 4, "spatial", "teacher")
    size = (teacher.shape[2], teacher.shape[3])
    return Spatial(student.shape[1], teacher.shape[1], size, bias=bias)


class Spatial(nn.Module):
    """A 1x1 convolution on whichever of the two sizes is smaller, and a resize.

    Both are linear in the map and do not care for their order, up to rounding.
    """

    def __init__(self, channels: int, wanted: int, size: Size, *, bias: bool = True):
        super().__init__()
        self.size = size
        self.convolution = nn.Conv2d(channels, wanted, kernel_size=1, bias=bias)

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, C', H', W')``."""
        grows = self.size[0] * self.size[1] > feature.shape[2] * feature.shape[3]
        if grows:
            return resize(self.convolution(feature), self.size)
        adapted: Tensor = self.convolution(resize(feature, self.size))
        return adapted
