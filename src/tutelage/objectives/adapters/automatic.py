"""An adapter by the shapes of both features."""

from collections.abc import Callable

from torch import Tensor, nn

from tutelage.core.errors import ShapeMismatch
from tutelage.core.registry import register
from tutelage.objectives.adapters.convolution import conv1x1, spatial
from tutelage.objectives.adapters.linear import linear
from tutelage.objectives.adapters.pooling import pool, spread
from tutelage.objectives.adapters.token import map_to_token, token, token_to_map

_BY_DIMENSIONS: dict[tuple[int, int], Callable[[Tensor, Tensor], nn.Module]] = {
    (2, 2): linear,
    (3, 3): token,
    (4, 4): spatial,
    (3, 4): token_to_map,
    (4, 3): map_to_token,
    (3, 2): pool,
    (4, 2): pool,
    (2, 3): spread,
    (2, 4): spread,
}


@register("adapter", "auto")
def choose(student: Tensor, teacher: Tensor) -> nn.Module:
    """The adapter that fits the dimensions of both features, always a learned linear one.

    ======================  ==========  =============================  ====================
    student to teacher      ``(N, D)``  ``(N, T, D)``                  ``(N, C, H, W)``
    ======================  ==========  =============================  ====================
    vectors ``(N, D)``      linear      spread                         spread
    tokens ``(N, T, D)``    pool        token                          token_to_map
    maps ``(N, C, H, W)``   pool        map_to_token                   conv1x1 or spatial
    ======================  ==========  =============================  ====================

    Features of equal shape get one too: two networks share no basis. Channels-last maps
    ``(N, H, W, C)`` cannot be told from ``(N, C, H, W)``: name ``linear`` for those.

    Args:
        student: One feature of the student.
        teacher: One feature of the teacher.

    Raises:
        ShapeMismatch: No adapter fits.

    Example:
        >>> import torch
        >>> choose(torch.rand(2, 65, 16), torch.rand(2, 32, 4, 4))(torch.rand(2, 65, 16)).shape
        torch.Size([2, 32, 4, 4])
    """
    if student.shape[2:] == teacher.shape[2:] and student.ndim == teacher.ndim == 4:
        return conv1x1(student, teacher)
    maker = _BY_DIMENSIONS.get((student.ndim, teacher.ndim))
    if maker is None:
        raise ShapeMismatch(
            f"no adapter leads from {tuple(student.shape)} to {tuple(teacher.shape)}: features "
            "must be vectors (N, D), tokens (N, T, D) or maps (N, C, H, W); choose others."
        )
    return maker(student, teacher)
