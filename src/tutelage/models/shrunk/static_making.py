"""Static encoders made of a transformer, without any text.

As model2vec makes them (Tulkens, van Dongen: Model2Vec: Fast State-of-the-Art Static Embeddings,
2024, https://github.com/MinishLab/model2vec): every token goes through the teacher alone, principal
components are kept, and frequent tokens count less (Arora, Liang, Ma: A Simple but Tough-to-Beat
Baseline for Sentence Embeddings, 2017, https://openreview.net/forum?id=SyK00v5xx).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.core.text import TextTokenizer
from tutelage.models.shrunk.calibration import asking
from tutelage.models.shrunk.static_encoder import StaticEncoder

POOLING = ("mean", "token", "first")
"""What of a teacher's answer to one token is its vector."""


def static_embeddings(
    teacher: nn.Module,
    tokenizer: TextTokenizer,
    dims: int | None = 256,
    *,
    vocabulary: int | Sequence[int] | None = None,
    counts: Tensor | Sequence[int] | None = None,
    smoothing: float = 1e-4,
    pooling: str = "mean",
    normalise: bool = True,
    batch_size: int = 512,
) -> StaticEncoder:
    """A static encoder whose token vectors are the teacher's, in fewer dimensions and weighted.

    Args:
        teacher: An encoder that answers ``input_ids`` and ``attention_mask`` with hidden states
            ``(N, T, H)`` (as ``last_hidden_state``), or with one vector for each text ``(N, H)``.
        tokenizer: The teacher's.
        dims: Principal components that are kept; None for the teacher's own dimensions.
        vocabulary: The numbers of tokens that get a vector, or how many of the most frequent ones;
            None for all. Special tokens get none, and do not count in a text.
        counts: How often each token occurs in text, ``(V,)``, as `token_counts` tells; None where
            it is not known: then tokens are taken to be numbered by frequency, and Zipf's law to
            hold.
        smoothing: a of `sif_weights`, as model2vec has it (the paper: 1e-3); 0 for equal weights.
        pooling: ``mean`` of the teacher's hidden states over the token and what begins and ends a
            text, ``token`` for the token's own, ``first`` for the first.
        normalise: Whether answers have length 1.
        batch_size: Tokens that the teacher is asked at once.

    Raises:
        ModelError: An option is out of its range, or the teacher answers otherwise.
        DataError: Counts are not of this vocabulary.
    """
    if pooling not in POOLING:
        raise ModelError(f"pooling must be one of {', '.join(POOLING)}, got {pooling!r}.")
    kept = _kept(tokenizer, vocabulary, counts)
    vectors = token_vectors(teacher, tokenizer, kept, pooling=pooling, batch_size=batch_size)
    if dims is not None:
        components, mean = principal(vectors, dims)
        vectors = (vectors - mean) @ components.T
    shares = zipf(len(kept)) if counts is None else torch.as_tensor(counts).double()[kept]
    if smoothing:
        vectors = vectors * sif_weights(shares, smoothing)[:, None]
    rows = torch.full((tokenizer.size,), -1, dtype=torch.int64)
    rows[kept] = torch.arange(len(kept))
    return StaticEncoder(vectors.float(), rows, normalise=normalise)


def token_counts(texts: Iterable[str], tokenizer: TextTokenizer) -> Tensor:
    """How often each token occurs in texts, ``(V,)`` of int64."""
    total = torch.zeros(tokenizer.size, dtype=torch.int64)
    for text in texts:
        tokens = torch.tensor(tokenizer.encode(text).tokens, dtype=torch.int64)
        total += torch.bincount(tokens, minlength=tokenizer.size)
    return total


def sif_weights(counts: Tensor, smoothing: float = 1e-3) -> Tensor:
    r"""Smooth inverse frequency.

    .. math:: w_i = \frac{a}{a + p_i}, \quad p_i = c_i / \sum_j c_j

    Args:
        counts: c, ``(V,)``: how often, or in what proportion.
        smoothing: a > 0; Arora et al. take 1e-3.

    Returns:
        ``(V,)`` of float64, from 0 to 1; 1 for what does not occur.

    Example:
        >>> sif_weights(torch.tensor([3.0, 1.0, 0.0]), 0.25)
        tensor([0.2500, 0.5000, 1.0000], dtype=torch.float64)
    """
    if not smoothing > 0:
        raise ModelError(f"smoothing must be greater than 0, got {smoothing!r}.")
    counts = counts.double()
    return smoothing / (smoothing + counts / counts.sum().clamp(min=1e-300))


def zipf(size: int) -> Tensor:
    r"""Zipf's law for tokens numbered by frequency, :math:`p_r = r^{-1} / \sum_k k^{-1}`, (V,).

    >>> zipf(3)
    tensor([0.5455, 0.2727, 0.1818], dtype=torch.float64)
    """
    shares = 1 / torch.arange(1, size + 1, dtype=torch.float64)
    return shares / shares.sum()


def principal(vectors: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    r"""Principal components: the eigenvectors of the covariance with the largest eigenvalues.

    Args:
        vectors: ``(V, H)``.
        dims: How many, at most H and below V.

    Returns:
        Components ``(dims, H)``, orthonormal, each with its largest number positive, and the mean
        ``(H,)``; both of float64.

    Raises:
        ModelError: There are not so many.

    Example:
        >>> principal(torch.tensor([[3.0, 4.0], [-3.0, -4.0], [0.0, 0.0]]), 1)[0]
        tensor([[0.6000, 0.8000]], dtype=torch.float64)
    """
    most = min(vectors.shape[1], len(vectors) - 1)
    if isinstance(dims, bool) or not isinstance(dims, int) or not 1 <= dims <= most:
        raise ModelError(
            f"dims: {len(vectors)} vectors of {vectors.shape[1]} numbers have {most} principal "
            f"components, got {dims!r}: give a number from 1 to {most}."
        )
    exact = vectors.double()
    mean = exact.mean(0)
    centred = exact - mean
    _, found = torch.linalg.eigh(centred.T @ centred)
    components = found.flip(1)[:, :dims].T
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return components * largest.sign(), mean


def token_vectors(
    teacher: nn.Module,
    tokenizer: TextTokenizer,
    tokens: Sequence[int] | Tensor,
    *,
    pooling: str = "mean",
    batch_size: int = 512,
) -> Tensor:
    """The teacher's answer to each token alone, between what begins and ends a text; ``(V, H)``."""
    numbers = torch.as_tensor(tokens).long()
    before, after = (
        torch.tensor([[] if edge is None else [edge]]).long().reshape(1, -1)
        for edge in (tokenizer.begin, tokenizer.end)
    )
    found: list[Tensor] = []
    with asking(teacher, {}) as ask:
        for start in range(0, len(numbers), batch_size):
            part = numbers[start : start + batch_size]
            sides = (each.expand(len(part), -1) for each in (before, after))
            ids = torch.cat([next(sides), part[:, None], next(sides)], 1)
            batch = Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
            found.append(_pooled(ask(batch), pooling, before.shape[1]).double().cpu())
    return torch.cat(found)


def _pooled(answer: Any, pooling: str, place: int) -> Tensor:
    hidden = answer.get("last_hidden_state") if isinstance(answer, Mapping) else answer
    if isinstance(hidden, Tensor) and hidden.ndim == 2:
        return hidden
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        raise ModelError(
            f"the teacher answers a text with a {type(answer).__name__} and not with hidden states "
            "(N, T, H) or vectors (N, H): give an encoder without a head (task: embedding)."
        )
    if pooling == "mean":
        return hidden.mean(1)
    return hidden[:, place if pooling == "token" else 0]


def _kept(tokenizer: TextTokenizer, vocabulary: Any, counts: Any) -> Tensor:
    size = tokenizer.size
    if counts is not None and tuple(torch.as_tensor(counts).shape) != (size,):
        raise DataError(
            f"counts: {tuple(torch.as_tensor(counts).shape)} were given for a vocabulary of {size} "
            "tokens: count with token_counts(texts, tokenizer)."
        )
    plain = [number for number in range(size) if number not in tokenizer.special]
    if vocabulary is None:
        return torch.tensor(plain)
    if isinstance(vocabulary, int) and not isinstance(vocabulary, bool):
        if not 1 <= vocabulary <= len(plain):
            raise ModelError(
                f"vocabulary: there are {len(plain)} tokens that are not special, and {vocabulary} "
                "were to get a vector."
            )
        if counts is not None:
            often = torch.as_tensor(counts).double()[plain]
            order = often.sort(descending=True, stable=True).indices[:vocabulary]
            plain = [plain[int(place)] for place in order.sort().values]
        return torch.tensor(plain[:vocabulary])
    numbers = sorted(set(vocabulary))
    if not numbers or not 0 <= numbers[0] <= numbers[-1] < size:
        raise ModelError(f"vocabulary: tokens have numbers from 0 to {size - 1}, got others.")
    return torch.tensor(numbers)
