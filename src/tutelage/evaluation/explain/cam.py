"""Grad-CAM: which places of the last convolutional map speak for a class."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.evaluation.whitebox import portions, whitebox
from tutelage.models.observed import Observed

_AT_ONCE = 64


def grad_cam(model: Observed, inputs: Tensor, classes: Tensor) -> Tensor | None:
    """Where the model sees each example's class, by the gradients of its last map.

    ``relu( sum_c a_c A_c )`` with ``a_c`` the mean over places of ``d logit_y / d A_c``; for a
    network whose map is averaged and read by one linear layer this is CAM (arXiv 1512.04150) up
    to a factor.

    The map is that of the last convolution with more than one place, after whatever keeps its
    shape behind it (normalisation, activation, the end of a residual block): found by hooks. A
    model that goes on with tokens behind it (a vision transformer) has no such map.

    Args:
        model: A torch model.
        inputs: Images ``(N, C, H, W)``.
        classes: The class asked about, ``(N,)``.

    Returns:
        ``(N, h, w)`` of float64, none negative, in the map's own resolution; None where the model
        has no such map.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
        >>> grad_cam(Observed(net), torch.rand(4, 1, 8, 8), torch.zeros(4).long()).shape
        torch.Size([4, 6, 6])

    Paper: Selvaraju et al., arXiv 1610.02391.
    """
    found = []
    with whitebox(model) as logits, _watched(model.model) as seen, torch.enable_grad():
        for rows in portions(len(inputs), _AT_ONCE):
            some, asked = inputs[rows], classes[rows]
            seen.clear()
            score = logits(some.detach().requires_grad_()).gather(1, asked[:, None]).sum()
            last = _last_map(seen, len(some))
            if last is None:
                return None
            (slope,) = torch.autograd.grad(score, last, allow_unused=True)
            if slope is None:  # a branch beside the way to the logits
                return None
            weight = slope.double().mean((2, 3), keepdim=True)
            found.append((weight * last.detach().double()).sum(1).clamp(min=0).cpu())
    return torch.cat(found)


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """What every module returns, in the order in which they are done."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((module, output))

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _last_map(seen: list[tuple[nn.Module, Tensor]], count: int) -> Tensor | None:
    convolved = [
        place
        for place, (module, output) in enumerate(seen)
        if isinstance(module, nn.Conv2d) and output.ndim == 4 and output[0, 0].numel() > 1
    ]
    if not convolved:
        return None
    behind = [output for _, output in seen[convolved[-1] :]]
    if any(output.ndim == 3 and len(output) == count for output in behind):
        return None
    return [output for output in behind if output.shape == behind[0].shape][-1]
