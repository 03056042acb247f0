"""Which token of one vocabulary is which of another: maps, and the classes that two heads share."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tutelage.core.errors import DataError, RecipeError, ShapeMismatch
from tutelage.core.text import TextTokenizer
from tutelage.objectives.crossed.nearest import nearest_pieces
from tutelage.objectives.units import whole

MAPS = ("same", "first", "nearest")
"""Ways of `token_map`."""


def token_map(student: TextTokenizer, teacher: TextTokenizer, how: str = "same") -> Tensor:
    """For each of the teacher's tokens the student's token that stands for it.

    - ``same``: the token of the same bytes, else none. The one map that claims nothing.
    - ``first``: the token of the same bytes, else the first token by which the student would begin
      those bytes. After a text that both have read, that is what the student predicts where the
      teacher predicts this token, unless a longer token of the student covers more.
    - ``nearest``: the token of the same bytes, else the one of least edit distance among those that
      begin with the same byte (`tutelage.objectives.crossed.nearest`): MinED. It takes minutes for
      large vocabularies, and pairs tokens that mean different things.

    Special tokens meet by what they are for: begin by begin, end by end. Words of a tokenizer that
    drops spaces have none in their bytes, so they meet the other's pieces that continue a word, and
    not its words: compare such a pair by likelihoods.

    Args:
        student: The student's tokenizer.
        teacher: The teacher's.
        how: One of `MAPS`.

    Returns:
        ``(teacher.size,)`` of int64; -1 for none.

    Raises:
        RecipeError: There is no such way.
    """
    if how not in MAPS:
        raise RecipeError(f"token_map knows {', '.join(MAPS)}, got {how!r}.")
    numbers = _by_bytes(student)
    found = torch.full((teacher.size,), -1)
    others: dict[bytes, list[int]] = {}
    for token in range(teacher.size):
        piece = b"" if token in teacher.special else teacher.token_bytes(token)
        if piece in numbers:
            found[token] = numbers[piece]
        elif piece and how == "first":
            found[token] = _first_token(student, piece, numbers)
        elif piece and how == "nearest":
            others.setdefault(piece, []).append(token)
    for piece, number in nearest_pieces(others, numbers).items():
        found[torch.tensor(others[piece])] = number
    for ours, theirs in ((student.begin, teacher.begin), (student.end, teacher.end)):
        if ours is not None and theirs is not None:
            found[theirs] = ours
    return found


def one_family(student: TextTokenizer, teacher: TextTokenizer) -> int:
    """How many leading tokens two tokenizers of one family share: the smaller one's, all alike.

    Heads of one family differ in what fills their last rows up (151,936 against 152,064), or one of
    them has tokens behind the other's last. Cutting two heads to the smaller is right for those,
    and for no others: this tells which.

    Returns:
        C, for `shared_classes`.

    Raises:
        DataError: One number stands for different bytes.
    """
    shared = min(student.size, teacher.size)
    for token in range(shared):
        ours, theirs = student.token_bytes(token), teacher.token_bytes(token)
        if ours != theirs or (token in student.special) != (token in teacher.special):
            raise DataError(
                f"token {token} is {ours!r} for {student.name} and {theirs!r} for {teacher.name}: "
                "heads of different vocabularies cannot be cut to one size; map their tokens by "
                "token_map."
            )
    return shared


def shared_classes(
    student: Tensor, teacher: Tensor, vocabulary: int | None = None, asker: str = "shared_classes"
) -> tuple[Tensor, Tensor]:
    r"""Logits of two heads of one family, over the classes that both have: -inf beyond.

    .. math:: z_c = -\infty \; \text{for} \; c \ge C, \quad \text{so} \quad
        \sigma(z)_c = \frac{e^{z_c}}{\sum_{k < C} e^{z_k}}

    A class with a logit of -inf takes no part in a softmax, so it is cut off; one that is filled up
    with a logit of 0 would be given probability. `mass_beyond` says how much each side loses. It is
    right within one family, for what fills a head up: `one_family` tells.

    Args:
        student: ``(N, ..., V)``.
        teacher: ``(N, ..., V')``.
        vocabulary: C; the smaller of V and V' if None.
        asker: In whose name what does not fit is refused.

    Returns:
        ``(N, ..., C)`` twice.

    Raises:
        ShapeMismatch: C is larger than one of the two, or below 2.

    Example:
        >>> ours, theirs = shared_classes(torch.zeros(1, 4), torch.zeros(1, 6))
        >>> ours.shape, theirs.shape
        (torch.Size([1, 4]), torch.Size([1, 4]))
    """
    least = min(student.shape[-1], teacher.shape[-1])
    classes = least if vocabulary is None else whole(vocabulary, "vocabulary", asker)
    if not 2 <= classes <= least:
        raise ShapeMismatch(
            f"{asker} was asked for {classes} classes of logits with {student.shape[-1]} and "
            f"{teacher.shape[-1]}: 2 to {least} can be compared."
        )
    return student[..., :classes], teacher[..., :classes]


def checked_map(tokens: Iterable[int] | Tensor | None, asker: str) -> Tensor | None:
    """A map from the teacher's tokens to the student's, as int64.

    Raises:
        RecipeError: It is no list of numbers, or maps nothing.
    """
    if tokens is None:
        return None
    try:
        found = torch.as_tensor(tokens if isinstance(tokens, Tensor) else list(tokens)).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"{asker}: tokens must be one number of the student's vocabulary for each of the "
            f"teacher's tokens, -1 for none, got a {type(tokens).__name__}: make them by token_map."
        ) from error
    odd = found.ndim != 1 or found.is_floating_point() or found.dtype == torch.bool
    if odd or not bool((found >= 0).any()):
        raise RecipeError(
            f"{asker}: tokens must be one number of the student's vocabulary for each of the "
            f"teacher's tokens, -1 for none, and not all of them; got {found.dtype} of shape "
            f"{tuple(found.shape)}: make them by token_map."
        )
    return found.long().clamp(min=-1)


def _by_bytes(tokenizer: TextTokenizer) -> dict[bytes, int]:
    """Numbers of tokens of text by their bytes; the lower one where two are alike."""
    found: dict[bytes, int] = {}
    for token in range(tokenizer.size):
        if token not in tokenizer.special:
            found.setdefault(tokenizer.token_bytes(token), token)
    found.pop(b"", None)
    return found


def _first_token(student: TextTokenizer, piece: bytes, numbers: Mapping[bytes, int]) -> int:
    """The token with which the student begins some bytes; -1 where it cannot write them."""
    try:
        tokens = student.encode(piece.decode()).tokens
    except UnicodeDecodeError:  # part of a character: by the longest token that begins it
        known = (
            numbers[piece[:size]] for size in range(len(piece), 0, -1) if piece[:size] in numbers
        )
        return next(known, -1)
    begun = student.token_bytes(tokens[0]) if tokens else b""
    return tokens[0] if begun and piece.startswith(begun) else -1
