"""The features a classifier decides by: what its last linear layer reads."""

from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.sets import Examples
from tutelage.evaluation.predict import evaluating
from tutelage.models.observed import Observed

_LAST = (nn.Linear, nn.Conv1d, nn.Conv2d)


def penultimate(model: Observed, examples: Examples, *, batch_size: int = 512) -> Tensor | None:
    """The input of the linear (or convolutional) layer that is run last, of every example.

    Maps are averaged over their places.

    Args:
        model: A torch model.
        examples: In order, without augmentation.
        batch_size: Examples read at once.

    Returns:
        ``(N, D)`` of float32 on the CPU; None where the model has no such layer.

    Example:
        >>> from tutelage.data.sets import TensorSet
        >>> net = Observed(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> penultimate(net, TensorSet(torch.zeros(5, 4))).shape
        torch.Size([5, 8])
    """
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            seen.append(inputs[0].detach())

    layers = [module for module in model.modules() if isinstance(module, _LAST)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = []
    try:
        with evaluating(model), torch.no_grad():
            for start in range(0, len(examples), batch_size):
                rows = torch.arange(start, min(start + batch_size, len(examples)))
                seen.clear()
                model(examples.batch(rows).to(device))
                if not seen or len(seen[-1]) != len(rows):
                    return None
                found.append(_pooled(seen[-1]).float().cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found)


def _pooled(values: Tensor) -> Tensor:
    """One row an example: maps ``(N, C, H, W)`` are averaged, tokens ``(N, L, D)`` too."""
    if values.ndim > 3:
        return values.flatten(2).mean(-1)
    return values.mean(1) if values.ndim == 3 else values
