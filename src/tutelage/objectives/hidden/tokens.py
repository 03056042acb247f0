"""Which tokens of a text count, and which of them each can see: one rule for all objectives.

A text comes as ``batch.inputs`` with ``input_ids`` ``(N, T)``. Where rows are padded,
``attention_mask`` says which tokens are real; where several documents share a row, ``position_ids``
begin anew at each. A padded token contributes nothing, whatever the mask says. Beyond that:

- ``units: counted`` (the default): with a mask ``(N, T)`` its tokens count, each alike, such as
  those of answers. Without one, or with a mask of examples, an example's value is the mean over
  its real tokens.
- ``units: real``: an example's value is always the mean over all its real tokens, the question's
  too, and stands for each of its tokens that the mask counts.

Both are means over ``batch.count``, so that parts of a batch add up to the whole.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch

Units = Literal["counted", "real"]
"""Whether tokens count that the mask counts, or all that are no padding."""

Pooling = Literal["mean", "first", "last"]
"""Which of a text's real tokens stand for the whole."""


def one_of(value: str, option: str, known: object, asker: str) -> str:
    """An option that must be one of the words of a ``Literal``."""
    words = get_args(known)
    if value not in words:
        raise RecipeError(f"{asker}: {option} must be {' or '.join(words)}, got {value!r}.")
    return value


def text_field(batch: Batch, name: str, whose: str = "student") -> Tensor | None:
    """What a text's inputs say under ``name``, ``(N, T)``; None where they do not.

    Where two tokenizers cut a text, names begin with ``student.`` and ``teacher.``.
    """
    if not isinstance(batch.inputs, Mapping):
        return None
    found = batch.inputs.get(f"{whose}.{name}")
    if found is None and whose == "student":
        found = batch.inputs.get(name)
    if found is not None and found.ndim != 2:
        raise ShapeMismatch(
            f"{name} of a text must be (N, T), one entry a token, and is {tuple(found.shape)}."
        )
    return found


def real_tokens(batch: Batch) -> Tensor | None:
    """Which tokens are no padding, ``(N, T)`` of bool; None where all are real.

    >>> text = {"input_ids": torch.tensor([[5, 7, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    >>> real_tokens(Batch(text))
    tensor([[ True,  True, False]])
    """
    mask = text_field(batch, "attention_mask")
    return None if mask is None else mask.bool()


def documents(batch: Batch) -> Tensor | None:
    """Which document of its row each token belongs to, ``(N, T)``; None where rows are not packed.

    >>> ids = torch.zeros(1, 5, dtype=torch.int64)
    >>> documents(Batch({"input_ids": ids, "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}))
    tensor([[0, 0, 0, 1, 1]])
    """
    positions = text_field(batch, "position_ids")
    if positions is None:
        return None
    begins = positions[:, 1:] != positions[:, :-1] + 1
    return torch.cat([torch.zeros_like(positions[:, :1]), begins.long().cumsum(1)], 1)


def visible_tokens(batch: Batch, *, padding: bool = True) -> Tensor | None:
    """Which tokens can be seen, ``(N, T)``, or by each, ``(N, T, T)`` where rows are packed.

    Args:
        batch: A text; of inputs without names the mask ``(N, T)`` is taken for that of padding.
        padding: Whether padded tokens are hidden.

    Returns:
        Bool; None where all see all.
    """
    seen = None
    if padding:
        named = isinstance(batch.inputs, Mapping)
        tokens = batch.mask if batch.mask is not None and batch.mask.ndim > 1 else None
        seen = real_tokens(batch) if named else tokens
    numbers = documents(batch)
    if numbers is None:
        return seen
    together = numbers[:, :, None] == numbers[:, None, :]
    return together if seen is None else together & seen[:, None, :]


def token_units(values: Tensor, batch: Batch, asker: str, units: str = "counted") -> Tensor:
    """One value a unit of the batch from one a token, by the rule of this file.

    Args:
        values: ``(N, T)``, or ``(N,)`` of whole examples, which stay as they are.
        batch: Gives the mask, and which tokens are real.
        asker: In whose name tokens are refused that are not those of the batch.
        units: See `Units`.

    Returns:
        ``(N, T)``, or ``(N,)`` where examples are the units; what does not count is 0 or masked.

    Example:
        >>> values = torch.tensor([[2.0, 4.0, 99.0]])
        >>> seen = torch.tensor([[1, 1, 0]])
        >>> token_units(values, Batch({"input_ids": seen, "attention_mask": seen}), "match")
        tensor([3.])
    """
    if values.ndim == 1:
        return values
    real, mask = real_tokens(batch), batch.mask
    by_token = mask is not None and mask.ndim > 1
    for what, given in (("mask", mask if by_token else None), ("attention_mask", real)):
        if given is not None:
            _fitting(given, values.shape, what, asker)
    zero = values.new_zeros(())
    kept = values if real is None else torch.where(real, values, zero)
    if by_token and units == "counted":
        return kept
    if not by_token and real is None:
        return values
    count = values.shape[1] if real is None else real.sum(1).clamp(min=1)
    means = kept.sum(1) / count
    return means[:, None].expand_as(values) if by_token else means


def counted_tokens(batch: Batch, shape: torch.Size, asker: str) -> Tensor:
    """Which tokens count, of bool: real ones that the mask, of tokens or examples, keeps.

    Args:
        batch: Gives the mask, and which tokens are real.
        shape: ``(N, T)``, or ``(N,)`` of whole examples.
        asker: In whose name other tokens are refused.
    """
    real, mask = real_tokens(batch), batch.mask
    device = mask.device if mask is not None else None if real is None else real.device
    kept = torch.ones(shape, dtype=torch.bool, device=device)
    if real is not None and len(shape) == 2:
        kept = _fitting(real, shape, "attention_mask", asker)
    if mask is None:
        return kept
    if mask.ndim == 1 and len(shape) == 2:
        mask = _fitting(mask, shape[:1], "mask", asker)[:, None]
        return kept & mask
    return kept & _fitting(mask, shape, "mask", asker)


def token_shares(batch: Batch, shape: torch.Size, asker: str, dtype: torch.dtype) -> Tensor:
    """What each token's value is multiplied by, so that their sum is the mean over what counts.

    Args:
        batch: As for `counted_tokens`.
        shape: ``(N, T)``, or ``(N,)`` of whole examples.
        asker: In whose name other tokens are refused.
        dtype: Of the shares.

    Returns:
        ``shape``; 0 for what does not count, and a sum of 1 where anything does.

    Example:
        >>> seen = torch.tensor([[1, 1, 0], [1, 0, 0]])
        >>> text = Batch({"input_ids": seen, "attention_mask": seen})
        >>> token_shares(text, seen.shape, "dskd", torch.float32)
        tensor([[0.2500, 0.2500, 0.0000],
                [0.5000, 0.0000, 0.0000]])
    """
    kept = counted_tokens(batch, shape, asker)
    shares = kept.to(dtype)
    if batch.mask is not None and batch.mask.shape == shape:
        return shares / batch.mask.sum().clamp(min=1)
    rows = len(batch) if batch.mask is None else batch.mask.sum().clamp(min=1)
    if len(shape) == 2:
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
    return shares / rows


def _fitting(given: Tensor, shape: Sequence[int], what: str, asker: str) -> Tensor:
    if tuple(given.shape) != tuple(shape):
        raise ShapeMismatch(
            f"{asker} compares tokens {tuple(shape)}, and the batch's {what} has shape "
            f"{tuple(given.shape)}: tap features of these tokens, (N, T, D)."
        )
    return given


def pooled_tokens(feature: Tensor, batch: Batch, how: str, asker: str) -> Tensor:
    """One vector a text: ``(N, T, D)`` -> ``(N, D)``; what is a vector already stays.

    Args:
        feature: ``(N, T, D)`` or ``(N, D)``.
        batch: Says which tokens are real.
        how: ``mean`` of the real tokens, the ``first`` of them (the class token of encoders) or
            the ``last`` (of causal models).
        asker: In whose name other features are refused.

    Example:
        >>> states = torch.tensor([[[1.0], [3.0], [8.0]]])
        >>> seen = torch.tensor([[1, 1, 0]])
        >>> text = Batch({"input_ids": seen, "attention_mask": seen})
        >>> [pooled_tokens(states, text, how, "match").item() for how in ("mean", "first", "last")]
        [2.0, 1.0, 3.0]
    """
    if feature.ndim == 2:
        return feature
    if feature.ndim != 3:
        raise ShapeMismatch(
            f"{asker} needs states (N, T, D) or vectors (N, D), and got {tuple(feature.shape)}: "
            "tap a layer of a transformer, or pool first."
        )
    real = real_tokens(batch)
    if real is None:
        return feature.mean(1) if how == "mean" else feature[:, 0 if how == "first" else -1]
    if real.shape != feature.shape[:2]:
        raise ShapeMismatch(
            f"{asker} got states {tuple(feature.shape)} of a text of {tuple(real.shape)} tokens."
        )
    if how == "mean":
        kept = torch.where(real[..., None], feature, feature.new_zeros(()))
        return kept.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
    places = torch.arange(real.shape[1], device=real.device).expand_as(real)
    if how == "first":
        chosen = torch.where(real, places, real.shape[1] - 1).amin(1)
    else:
        chosen = torch.where(real, places, 0).amax(1)
    return feature[torch.arange(len(feature), device=feature.device), chosen]
