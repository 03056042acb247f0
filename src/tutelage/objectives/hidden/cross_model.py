"""Cross-model attention: which tokens of one text, cut by two tokenizers, belong together.

Zhang, Zhang, Sun, Chen, Xu: Dual-Space Knowledge Distillation for Large Language Models, 2024,
arXiv:2406.17328.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError, ShapeMismatch
from tutelage.core.reduce import full_precision
from tutelage.objectives.hidden.tokens import text_field
from tutelage.objectives.language.tiles import tile_height


def cross_attention(
    queries: Tensor, keys: Tensor, student: Tensor, teacher: Tensor
) -> tuple[Tensor, Tensor]:
    r"""How much each student token takes from each teacher token, and the other way round.

    .. math:: a^{t \to s}_{ij} = \sigma_j\Big(\frac{q_i \cdot k_j}{\sqrt D}\Big), \quad
        a^{s \to t}_{ji} = \sigma_i\Big(\frac{q_i \cdot k_j}{\sqrt D}\Big)

    Args:
        queries: Of the student's tokens, ``(N, T, D)``.
        keys: Of the teacher's, ``(N, T', D)``.
        student: Which of its tokens take part, ``(N, T)`` of bool.
        teacher: Which of its tokens do, ``(N, T')``.

    Returns:
        ``(N, T, T')`` with rows of sum 1, and ``(N, T', T)`` likewise; a token to which none
        belongs has a row of zeros.

    Example:
        >>> one = torch.ones(1, 1, 4)
        >>> there = torch.tensor([[True, True, False]])
        >>> cross_attention(one, one.expand(1, 3, 4), there[:, :1], there)[0]
        tensor([[[0.5000, 0.5000, 0.0000]]])
    """
    with full_precision(queries):
        scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
    together = student[:, :, None] & teacher[:, None, :]
    # Not -inf: a softmax over nothing would be NaN.
    scores = scores.masked_fill(~together, torch.finfo(scores.dtype).min)
    ours, theirs = (
        each.softmax(-1).masked_fill(~seen, 0.0)
        for each, seen in ((scores, together), (scores.mT, together.mT))
    )
    return ours, theirs


def standardized(states: Tensor, counted: Tensor) -> Tensor:
    r"""A text's vectors divided by the standard deviation of all their numbers.

    .. math:: x_{id} / \sqrt{\mathrm{mean} \, (x - \bar x)^2}

    Args:
        states: ``(N, T, D)``.
        counted: Which tokens count, ``(N, T)`` of bool.

    Returns:
        ``(N, T, D)``; zeros where a token does not count.

    Example:
        >>> x = torch.tensor([[[1.0], [3.0], [99.0]]])
        >>> standardized(x, torch.tensor([[True, True, False]])).flatten()
        tensor([1., 3., 0.])
    """
    kept = torch.where(counted[..., None], states, states.new_zeros(()))
    count = (counted.sum(1) * states.shape[-1]).clamp(min=1)[:, None, None]
    mean = kept.sum((1, 2), keepdim=True) / count
    gaps = torch.where(counted[..., None], states - mean, states.new_zeros(()))
    spread = (gaps.square().sum((1, 2), keepdim=True) / count).sqrt()
    return kept / spread.clamp(min=torch.finfo(states.dtype).tiny ** 0.5)


@dataclass(frozen=True)
class Cut:
    """A text as one tokenizer cuts it, as a network embeds it.

    Attributes:
        embedded: What stands at each token and what follows it, ``(N, T, 2 * E)``.
        following: The second half of that.
        counted: Which tokens count, ``(N, T)`` of bool.
    """

    embedded: Tensor
    following: Tensor
    counted: Tensor


def cut_of(batch: Batch, whose: str, hidden: Tensor, embedding: nn.Module, asker: str) -> Cut:
    """The student's cut of a batch's texts, or the teacher's, whose fields begin with its name.

    Args:
        batch: Holds ``input_ids`` and targets; its inputs ``teacher.input_ids``,
            ``teacher.targets`` and perhaps ``teacher.mask``.
        whose: ``student`` or ``teacher``.
        hidden: The network's states ``(N, T, D)`` of these tokens.
        embedding: Its token embeddings; nothing is learned through them.
        asker: In whose name others are refused.
    """
    ours = whose == "student"
    ids = text_field(batch, "input_ids", whose)
    following = batch.targets if ours else text_field(batch, "targets", whose)
    mask = None if ours else text_field(batch, "mask", whose)
    ids = token_numbers(ids, hidden, f"{whose}.input_ids", asker)
    following = token_numbers(following, hidden, f"{whose}.targets", asker)
    counted = following >= 0
    if mask is not None:
        counted = counted & token_numbers(mask, hidden, f"{whose}.mask", asker)
    with torch.no_grad():
        here, after = (embedding(numbers.clamp(min=0)) for numbers in (ids, following))
    here, after = here.to(hidden.dtype), after.to(hidden.dtype)
    return Cut(torch.cat([here, after], -1), after, counted)


def token_numbers(tokens: Tensor | None, hidden: Tensor, what: str, asker: str) -> Tensor:
    """Token numbers ``(N, T)`` of hidden states ``(N, T, D)``, refused where they are others'."""
    if tokens is None:
        raise DataError(
            f"{asker} needs both networks' tokens, and this batch has no {what}: cut each text by "
            "both tokenizers (tutelage.data.text.aligned), or leave embeddings out where both "
            "networks have one."
        )
    if hidden.ndim != 3 or tokens.shape != hidden.shape[:-1]:
        raise ShapeMismatch(
            f"{asker} got {what} of {tuple(tokens.shape)} for hidden states {tuple(hidden.shape)}: "
            "there must be one number for each token, (N, T) and (N, T, D)."
        )
    return tokens


def embedding_width(module: nn.Module, path: str, asker: str) -> int:
    """How wide token embeddings are, refused where a module is none."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ModelError(
            f"{asker} looks tokens up in an embedding, and {path!r} is a {type(module).__name__}: "
            "name the module that embeds tokens, such as model.embed_tokens."
        )
    return weight.shape[1]


@torch.no_grad()
def read_rightly(
    states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, wanted: Tensor
) -> Tensor:
    """Where a head reads the target first in a state, of bool, looked at where ``wanted``.

    Args:
        states: ``(N, T, D)``.
        weight: The head's, ``(V, D)``.
        bias: The head's, ``(V,)``.
        targets: ``(N, T)``.
        wanted: ``(N, T)`` of bool; elsewhere the answer is no.

    Example:
        >>> states, yes = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[True, True]])
        >>> read_rightly(states, torch.eye(2), None, torch.tensor([[0, 0]]), yes)
        tensor([[ True, False]])
    """
    flat, numbers = states.flatten(0, -2), targets.flatten()
    weight = weight.to(states.dtype)
    found = torch.zeros_like(wanted).flatten()
    counted, height = wanted.flatten().nonzero()[:, 0], tile_height(len(weight), 4)
    for start in range(0, len(counted), height):
        rows = counted[start : start + height]
        first = F.linear(flat[rows], weight, bias).argmax(-1)
        found[rows] = first == numbers[rows]
    return found.view_as(wanted)
