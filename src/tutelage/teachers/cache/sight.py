"""What a batch's inputs look like: one number an example, to know them again by."""

from functools import lru_cache

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.seeds import uniform

_NEAR = 1e-3
"""Of the largest input: what rounding on another machine may change, and no other view leaves."""


_MASK = "attention_mask"


def sights_of(batch: Batch) -> tuple[Tensor, float]:
    """A fixed random projection of each example's inputs ``(N,)``, and how much is a difference.

    >>> one = Batch(torch.rand(3, 1, 8, 8))
    >>> other = Batch(one.inputs.flip(-1))
    >>> (a, near), (b, _) = sights_of(one), sights_of(other)
    >>> bool(((a - b).abs() > near).any())
    True
    """
    named = {"": batch.inputs} if isinstance(batch.inputs, Tensor) else dict(batch.inputs)
    total, near = torch.zeros(len(batch)), 0.0
    seen_by = [name for name in sorted(named) if not name.endswith(_MASK)]
    for place, name in enumerate(seen_by or sorted(named)):
        each, there = named[name].detach(), _there(batch, named, name)
        if not each.is_floating_point() and each.ndim == 2 and each.dtype != torch.bool:
            total += _of_numbers(each.cpu(), there, place)
            near += _NEAR
            continue
        if there is not None and there.shape == each.shape:
            each = each * there  # however far a text is filled up, it looks the same
        flat = each.flatten(1) if each.ndim > 1 else each[:, None]
        flat = flat.float()
        weights = _weights(place, flat.shape[1]).to(flat.device)
        with torch.autocast(flat.device.type, enabled=False):
            # A GPU may be told to multiply matrices roughly; sums of products are always exact.
            seen = flat @ weights if flat.is_cpu else (flat * weights).sum(1)
        total += seen.cpu()
        if flat.numel():
            low, high = flat.aminmax()
            # Sums of many numbers are rounded more, by about the root of how many.
            near += _NEAR * max(-float(low), float(high)) * (1 + flat.shape[1] ** 0.5 / 30)
    return total, near


def _of_numbers(tokens: Tensor, there: Tensor | None, place: int) -> Tensor:
    """Each (number, column) counts as if drawn: one token changed is seen as well as many."""
    column = torch.arange(tokens.shape[1])
    keys = (tokens.long() << 24) + column
    seen = 2 * uniform(place, keys.flatten())[:, 0].view(tokens.shape) - 1
    if there is not None and there.shape == tokens.shape:
        seen = seen * there.cpu()  # however far a text is filled up, it looks the same
    return seen.float().sum(1)


def _there(batch: Batch, named: dict[str, Tensor], name: str) -> Tensor | None:
    """Where a text is and no filling, ``(N, T)`` of bool; None where nothing says so."""
    side = name.rpartition(".")[0] + "." if "." in name else ""
    decoder = "decoder_" if name.startswith("decoder_") else ""
    mask = named.get(side + decoder + _MASK)
    there = None if mask is None else mask != 0
    both = any(each.startswith("decoder_") for each in named)  # a text, and an answer to it
    targets = batch.targets
    if targets is None or targets.ndim != 2 or side or both != bool(decoder):
        return there
    if there is None and "position_ids" not in named:
        return None
    # A row's last word predicts nothing, and is cut off where no row of the batch is longer. Rows
    # that documents share have no mask: behind the last word to be predicted is filling.
    ahead: Tensor = (targets >= 0).flip(1).int().cummax(1).values.flip(1) > 0
    return ahead if there is None or there.shape != ahead.shape else there & ahead


@lru_cache(maxsize=16)
def _weights(place: int, count: int) -> Tensor:
    return uniform(place, torch.arange(count))[:, 0] * 2 - 1
