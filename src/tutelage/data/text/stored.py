"""Rows of tokens as they are kept: checked once, and in as few bytes as will do."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.errors import DataError

_SHORT = 1 << 16


def compact(tokens: Tensor, vocabulary: int | None, name: str, least: int) -> tuple[Tensor, int]:
    """Rows of tokens in two bytes a token if the vocabulary allows, else in four.

    Args:
        tokens: ``(N, L)`` of any integer type.
        vocabulary: How many numbers there are; None for as many as are used.
        name: What messages call the set.
        least: How long rows must be.

    Returns:
        The tokens ``(N, L)`` of uint16 or int32, and how many numbers there are.

    Raises:
        DataError: Another shape or type, or a number outside.
    """
    if tokens.ndim != 2 or not len(tokens) or tokens.shape[1] < least:
        raise DataError(
            f"tokens of {name} have shape {tuple(tokens.shape)}, expected rows (N, L) of L >= "
            f"{least}, at least one."
        )
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        kind = str(tokens.dtype).removeprefix("torch.")
        raise DataError(f"tokens of {name} are {kind}, expected their numbers (integers).")
    # torch has no extrema of uint16
    signed = tokens.int() if tokens.dtype == torch.uint16 else tokens
    low, high = (int(each) for each in signed.aminmax())
    size = high + 1 if vocabulary is None else vocabulary
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        row = int((signed == wrong).any(1).int().argmax())
        raise DataError(
            f"token {wrong} in row {row} of {name} is outside 0..{size - 1}: there are {size} "
            "numbers; fill rows up with any of them, and say so in lengths."
        )
    return tokens.to(torch.uint16 if size <= _SHORT else torch.int32), size


def filled(
    rows: Sequence[NDArray[np.int32]], padding: int, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Rows ``(N, L)`` of int32, filled up on the right, and their lengths ``(N,)``.

    L is ``width``, or that of the longest.

    >>> filled([np.array([5, 6]), np.array([7])], 0)[0].tolist()
    [[5, 6], [7, 0]]
    """
    columns = max(map(len, rows)) if width is None else width
    tokens = np.full((len(rows), columns), padding, np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return torch.from_numpy(tokens), torch.tensor([len(row) for row in rows])


def lengths_of(lengths: Tensor | None, tokens: Tensor, name: str, least: int) -> Tensor | None:
    """Lengths of rows as int32, or the one line that says what is wrong with them."""
    if lengths is None:
        return None
    if tuple(lengths.shape) != (len(tokens),) or lengths.is_floating_point():
        raise DataError(
            f"lengths of {name} have shape {tuple(lengths.shape)}, expected ({len(tokens)},): how "
            "many tokens of each row are not filling."
        )
    low, high = int(lengths.min()), int(lengths.max())
    if low < least or high > tokens.shape[1]:
        wrong = low if low < least else high
        row = int((lengths == wrong).int().argmax())
        raise DataError(
            f"row {row} of {name} is {wrong} tokens long, expected {least} to {tokens.shape[1]}."
        )
    return lengths.to(torch.int32)


def marks_of(marks: Tensor | None, tokens: Tensor, name: str) -> Tensor | None:
    """Marks of tokens as bool, or the one line that says what is wrong with them."""
    if marks is not None and (marks.shape != tokens.shape or marks.dtype != torch.bool):
        kind = str(marks.dtype).removeprefix("torch.")
        raise DataError(
            f"{name} are {kind} of shape {tuple(marks.shape)}, expected bool of shape "
            f"{tuple(tokens.shape)}."
        )
    return marks


def digest_of(*parts: Tensor | str | None) -> str:
    """SHA-256 (hex) over tensors and words.

    >>> digest_of(torch.zeros(2)) == digest_of(torch.zeros(2), None)
    False
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            total.update(f"{part.dtype} {tuple(part.shape)};".encode())
            total.update(np.ascontiguousarray(part.numpy()).data)
        else:
            total.update(f"{part};".encode())
    return total.hexdigest()
