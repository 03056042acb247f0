"""Attention rollout: which patches the answer of a vision transformer has gathered from."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tutelage.evaluation.whitebox import portions, whitebox
from tutelage.models.observed import Observed

_AT_ONCE = 64


def attention_rollout(model: Observed, inputs: Tensor) -> Tensor | None:
    """Attention of all blocks multiplied, from the class token down to the patches.

    ``R = prod_b norm( (W_b + I) / 2 )`` with ``W_b`` the mean over heads of block b's attention.
    Unlike Grad-CAM it asks about no class: it says where the answer comes from, not what for.

    Every call of ``scaled_dot_product_attention`` is heard, so any model is taken whose blocks
    call it on a square of patches, with or without one class token in front.

    Args:
        model: A torch model.
        inputs: Images ``(N, C, H, W)``.

    Returns:
        ``(N, h, w)`` of float64, one number a patch; None for a model without such attention.

    Paper: Abnar and Zuidema, arXiv 2005.00928.
    """
    found = []
    with whitebox(model) as logits, torch.no_grad():
        for rows in portions(len(inputs), _AT_ONCE):
            some = inputs[rows]
            with _Listening() as heard:
                logits(some)
            gathered = _rolled(heard.weights)
            if gathered is None:
                return None
            places = _on_patches(gathered, some.shape[2], some.shape[3])
            if places is None:
                return None
            found.append(places)
    return torch.cat(found)


class _Listening(TorchFunctionMode):
    """Keeps the attention, mean over heads ``(N, T, T)``, of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(  # torch's own protocol
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention and len(args) >= 2:
            query, key = args[0].double(), args[1].double()
            if query.ndim == 4 and query.shape == key.shape:
                alike = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
                self.weights.append(alike.softmax(-1).mean(1))
        return func(*args, **(kwargs or {}))


def _rolled(weights: list[Tensor]) -> Tensor | None:
    if not weights or any(one.shape != weights[0].shape for one in weights):
        return None
    rolled = torch.eye(weights[0].shape[-1], dtype=torch.float64, device=weights[0].device)
    for one in weights:
        mixed = (one + torch.eye(one.shape[-1], dtype=one.dtype, device=one.device)) / 2
        rolled = mixed @ rolled
    return rolled.cpu()


def _on_patches(rolled: Tensor, high: int, wide: int) -> Tensor | None:
    """What reached the class token (or, without one, all tokens) from each patch."""
    tokens = rolled.shape[-1]
    for patches, reached in ((tokens - 1, rolled[:, 0, 1:]), (tokens, rolled.mean(1))):
        rows = round(math.sqrt(patches * high / wide))
        if rows > 1 and patches % rows == 0 and rows * wide == (patches // rows) * high:
            return reached.reshape(len(rolled), rows, patches // rows)
    return None
