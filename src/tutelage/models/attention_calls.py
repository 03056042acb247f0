"""What a call of fused attention was given, and the matrix that it does not keep."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CALL = "scaled_dot_product_attention"
"""The function of torch whose calls are looked at."""

SIDES = ("queries", "keys", "values", "attention")
"""What can be had of a call."""

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def of_call(side: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], groups: int) -> Tensor:
    """One of `SIDES` of a call.

    Args:
        side: ``queries`` ``(N, H, T, d)``; ``keys`` and ``values`` ``(N, H / g, S, d)``, once for
            all query heads that share them, whether or not the model had repeated them for the
            call; or ``attention`` ``(N, H, T, S)``, before dropout.
        args: As the call was given them.
        kwargs: Likewise.
        groups: g, how many query heads share keys and values.
    """
    given = dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs)
    if side == "attention":
        return attention_matrix(
            given["query"],
            given["key"],
            mask=given.get("attn_mask"),
            causal=bool(given.get("is_causal", False)),
            scale=given.get("scale"),
        )
    states: Tensor = given[{"queries": "query", "keys": "key", "values": "value"}[side]]
    repeated = groups > 1 and states.shape[1] == given["query"].shape[1]
    return states[:, ::groups] if side != "queries" and repeated else states


def attention_matrix(
    queries: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    r"""The attention that a fused call takes of queries to keys, in fp32.

    .. math:: A = \sigma\big(s \, q k^\top + m\big), \quad s = 1 / \sqrt d \text{ unless told}

    Args:
        queries: ``(N, H, T, d)``.
        keys: ``(N, H / g, S, d)``, shared by groups of g query heads.
        mask: Bool, True for what is seen, or numbers to be added; fits ``(N, H, T, S)``.
        causal: Whether query i sees keys up to number i only.
        scale: s.

    Returns:
        ``(N, H, T, S)``; rows sum to 1, and are 0 where a query sees nothing.

    Example:
        >>> q, k = torch.rand(1, 4, 3, 2), torch.rand(1, 2, 3, 2)
        >>> attention_matrix(q, k, causal=True)[0, 0, 0].tolist()
        [1.0, 0.0, 0.0]
    """
    scale = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        shared = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1).to(dtype)
        scores = (queries.to(dtype) * scale) @ shared.transpose(-1, -2)
        hidden = torch.zeros_like(scores[:1, :1], dtype=torch.bool)
        if causal:
            hidden = ~torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
        if mask is not None and mask.dtype == torch.bool:
            hidden = hidden | ~mask
        elif mask is not None:
            scores = scores + mask.to(dtype)
        seen = scores.masked_fill(hidden, torch.finfo(dtype).min).softmax(-1)
        return seen.masked_fill(hidden, 0.0)
