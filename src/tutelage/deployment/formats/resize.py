"""A resize that every runtime computes alike: two products of matrices."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.core.batch import Inputs
from tutelage.models.intake import Intake


class FixedResize(nn.Module):
    """Bilinear resize with antialiasing, of images of one size.

    The same numbers as `torch.nn.functional.interpolate` gives. OpenVINO 2026.4 computes another
    resize for the ONNX operator than torch does, and ExecuTorch 1.5 refuses to run its own on more
    or fewer examples than it was planned for; products of matrices are the same everywhere.

    Args:
        before: Height and width of the images.
        after: Height and width that the model takes.

    Example:
        >>> images = torch.rand(2, 1, 28, 28)
        >>> wanted = F.interpolate(images, (20, 24), mode="bilinear", antialias=True)
        >>> bool((FixedResize((28, 28), (20, 24))(images) - wanted).abs().max() < 1e-6)
        True
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, before: tuple[int, int], after: tuple[int, int]):
        super().__init__()
        self.register_buffer("rows", _matrix(before[0], after[0]))
        self.register_buffer("columns", _matrix(before[1], after[1]).T.contiguous())

    def forward(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)`` in the size that the model takes."""
        return self.rows.to(images.dtype) @ images @ self.columns.to(images.dtype)


def _matrix(before: int, after: int) -> Tensor:
    """``(after, before)``: what each row of the result takes of the rows there were."""
    unit = torch.eye(before)[None, None]
    size = (after, before)
    return F.interpolate(unit, size, mode="bilinear", antialias=True, align_corners=False)[0, 0]


def fix_sizes(shipped: Any, inputs: Inputs) -> None:
    """Put a `FixedResize` in the place of every resize of the model's intake.

    Args:
        shipped: A copy of the model that is going to be exported; it is changed.
        inputs: One example or more, of the shape that the data has.
    """
    seen: dict[Intake, tuple[int, int]] = {}

    def look(intake: Intake, given: tuple[Any, ...]) -> None:
        if isinstance(given[0], Tensor) and given[0].ndim == 4:
            seen[intake] = (given[0].shape[2], given[0].shape[3])

    found = [one for one in shipped.modules() if isinstance(one, Intake) and one.size is not None]
    hooks = [one.register_forward_pre_hook(look) for one in found]
    try:
        with torch.no_grad():
            shipped(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for parent in list(shipped.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Intake) and child in seen:
                setattr(parent, name, _fixed(child, seen[child]))


def _fixed(intake: Intake, before: tuple[int, int]) -> nn.Module:
    after, intake.size = intake.size, None
    assert after is not None
    return intake if after == before else nn.Sequential(FixedResize(before, after), intake)
