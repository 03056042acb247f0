"""Which tokens of a row belong together: padding, and several documents in one row."""

import torch
from torch import Tensor


def positions_of(attention_mask: Tensor) -> Tensor:
    """Places of tokens in a padded row, counted from its first real one; 0 before it.

    >>> positions_of(torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])).tolist()
    [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]
    """
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def padding_apart(position_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Positions ``(N, T)`` in which every token of padding is a document of its own.

    So one tensor says both where documents begin and what is padding, and nothing sees padding.

    >>> padding_apart(torch.tensor([[0, 1, 0, 1, 2]]), torch.tensor([[1, 1, 1, 0, 0]])).tolist()
    [[0, 1, 0, 0, 0]]
    """
    if attention_mask is None:
        return position_ids
    return position_ids.masked_fill(attention_mask == 0, 0)


def document_numbers(position_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Which document of its row each token is of, counted from 0; padding is apart.

    A document begins where a position is not the one before plus 1.

    Args:
        position_ids: ``(N, T)``; they begin anew at each document.
        attention_mask: ``(N, T)``, 0 where there is padding; None for none.

    Returns:
        ``(N, T)`` of int64.

    Example:
        >>> document_numbers(torch.tensor([[0, 1, 2, 0, 1, 0]])).tolist()
        [[0, 0, 0, 1, 1, 2]]
    """
    places = padding_apart(position_ids, attention_mask)
    begins = places.diff(dim=-1) != 1
    return torch.cat([torch.zeros_like(begins[:, :1]), begins], dim=-1).long().cumsum(-1)


def together(position_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Who may see whom where documents are kept apart and order does not matter.

    Returns:
        ``(N, 1, T, T)`` of bool, True for tokens of one document.
    """
    numbers = document_numbers(position_ids, attention_mask)
    return (numbers[:, :, None] == numbers[:, None, :]).unsqueeze(1)


def causal_view(
    length: int, position_ids: Tensor | None, attention_mask: Tensor | None, past: int = 0
) -> Tensor | None:
    """Who may see whom where a token sees itself and what was before it.

    Args:
        length: Tokens that are read now, T.
        position_ids: Of these tokens, ``(N, T)``, where documents are to be kept apart; None where
            a row is one document, and where there is a past.
        attention_mask: ``(N, past + T)``, 0 where there is padding; None for none.
        past: Tokens that were read before.

    Returns:
        Bool ``(N, 1, T, past + T)``; None for every token before, or at the same place.
    """
    if position_ids is None and attention_mask is None:
        return None
    either = attention_mask if position_ids is None else position_ids
    assert either is not None
    now = torch.arange(past, past + length, device=either.device)[:, None]
    then = torch.arange(past + length, device=either.device)
    before = (then <= now)[None, None]  # (1, 1, T, S)
    if position_ids is not None:
        return before & together(position_ids, attention_mask)
    assert attention_mask is not None
    # A token of padding sees itself: a softmax over nothing would be NaN.
    return before & ((attention_mask != 0)[:, None, None, :] | (then == now)[None, None])
