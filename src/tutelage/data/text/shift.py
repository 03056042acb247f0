"""The one place where tokens become targets: what stands at t is to predict what stands at t+1."""

import torch
from torch import Tensor

from tutelage.core.errors import DataError

NOTHING = -1
"""Target of a position that nothing of its document follows."""


def next_tokens(
    tokens: Tensor, counted: Tensor | None = None, documents: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Rows of tokens as inputs, targets and mask, lined up position by position.

    .. math::
        x_t = w_t, \qquad y_t = w_{t+1}, \qquad
        m_t = c_{t+1} \land d_{t+1} = d_t \land d_t \ge 0

    A prediction counts if the token to be predicted counts: so the first token of an answer is
    learnt, from the last one of the question, and what follows the end of an answer is not. The
    first token of a document is never predicted from the document before it, for nothing of that
    one tells of it; a document's end token is its own last token, and is predicted.

    Args:
        tokens: Rows ``(N, L)`` of any integer type, L at least 2.
        counted: Which tokens are to be predicted ``(N, L)`` of bool; None for all.
        documents: Which document of the row a token is of ``(N, L)``, negative for padding; None
            where a row is one document.

    Returns:
        Inputs ``(N, L-1)`` of int64; targets ``(N, L-1)`` of int64, -1 where nothing of the
        document follows; mask ``(N, L-1)`` of bool.

    Raises:
        DataError: The shapes do not fit together.

    Example:
        >>> row = torch.tensor([[5, 6, 7, 2]])  # a question of two tokens, its answer, the end
        >>> answer = torch.tensor([[False, False, True, True]])
        >>> next_tokens(row, answer)
        (tensor([[5, 6, 7]]), tensor([[6, 7, 2]]), tensor([[False,  True,  True]]))
    """
    if tokens.ndim != 2 or tokens.shape[1] < 2:
        raise DataError(
            f"tokens have shape {tuple(tokens.shape)}, expected rows (N, L) of at least 2: one to "
            "read and one to predict."
        )
    for name, marks in (("counted", counted), ("documents", documents)):
        if marks is not None and marks.shape != tokens.shape:
            raise DataError(
                f"{name} has shape {tuple(marks.shape)} and tokens {tuple(tokens.shape)}: "
                "one mark for each token is needed."
            )
    inputs, targets = tokens[:, :-1].long(), tokens[:, 1:].long()
    mask = torch.ones_like(targets, dtype=torch.bool) if counted is None else counted[:, 1:].bool()
    if documents is not None:
        follows = (documents[:, 1:] == documents[:, :-1]) & (documents[:, :-1] >= 0)
        mask = mask & follows
        targets = targets.masked_fill(~follows, NOTHING)
    return inputs, targets, mask
