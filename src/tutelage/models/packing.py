"""Do documents that share a row stay apart in this model?"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.models.documents import document_numbers

_TOLERANCE = 1e-3  # of the largest logit; rounding in half precision is below


def are_packed(inputs: object) -> bool:
    """Whether some row of these inputs holds several documents."""
    places = inputs.get("position_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(places, Tensor) or places.ndim != 2:
        return False
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    numbers = document_numbers(places)
    return bool((numbers if mask is None else numbers * (mask != 0)).any())


def check_packing(model: nn.Module, read: Callable[..., Tensor]) -> None:
    """Try it on six tokens: the answers to a document must not depend on the one before it.

    Models of some makes take positions and say nothing, yet let documents see each other.

    Args:
        model: Left as it was, in mode and weights.
        read: How it takes inputs.

    Raises:
        ModelError: They do, or the model cannot be asked.

    Example:
        >>> from tutelage.models import build_model, reader_of
        >>> net = build_model({"gpt": {"layers": 1, "width": 16}}, classes=9, shape=(4,))
        >>> check_packing(net, reader_of(net))
    """
    while hasattr(read, "read"):  # around another one
        read = read.read
    weight = next(model.parameters(), torch.zeros(()))
    places = torch.tensor([[0, 1, 2, 0, 1, 2]] * 2, device=weight.device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            logits = read(model, {"input_ids": _tokens(model, weight), "position_ids": places})
    except RuntimeError as error:
        said = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{type(model).__name__} cannot keep documents apart that share a row ({said}): turn "
            "packing off."
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
    first, second = logits[:, 3:].float()
    if (first - second).abs().max() > _TOLERANCE * first.abs().max():
        raise ModelError(
            f"{type(model).__name__} lets documents that share a row see each other, whatever "
            "their positions say: turn packing off."
        )


def _tokens(model: nn.Module, weight: Tensor) -> Tensor:
    """Two rows of two documents, of which the second are alike: ``(2, 6)``."""
    config: Any = getattr(model, "config", None)
    known = getattr(config, "vocab_size", None) or getattr(model, "vocabulary", None) or 8
    middle = int(known) // 2  # special tokens are at either end
    rows = torch.tensor([[0, 1, 2, 1, 2, 0], [2, 0, 0, 1, 2, 0]], device=weight.device)
    return (rows + middle) % int(known)
