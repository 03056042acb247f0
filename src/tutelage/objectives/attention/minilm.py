"""MiniLM: the last layer's attention, and how its values relate to each other.

Wang, Wei, Dong, Bao, Yang, Zhou: MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers, 2020, arXiv:2002.10957.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tutelage.core.registry import register
from tutelage.objectives.attention.heads import (
    AbstractHeads,
    Counts,
    log_attention,
    rows_apart,
    split_heads,
)
from tutelage.objectives.hidden.tokens import Units
from tutelage.objectives.pairs import Pairs


def minilm(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    *,
    causal: bool = False,
    padding: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The two terms: attention distributions, and relations between values.

    .. math:: \frac{1}{H} \sum_h KL\big(A^t_{hi} \| A^s_{hi}\big), \quad
        \frac{1}{H} \sum_h KL\big(V^t_{hi} \| V^s_{hi}\big), \quad
        A = \sigma\big(q k^\top / \sqrt d\big), \; V = \sigma\big(v v^\top / \sqrt d\big)

    Args:
        student: Queries ``(N, H, T, d)``, keys and values ``(N, H / g, T, d)``.
        teacher: The same with heads of any size d'.
        causal: See `log_attention`.
        padding: See `log_attention`.

    Returns:
        Each ``(N, T)``, in nats.

    Raises:
        ShapeMismatch: Student and teacher have not as many heads, or tokens.

    Example:
        >>> import torch
        >>> states = [torch.rand(1, 2, 3, 4) for _ in "qkv"]
        >>> [round(term.sum().item(), 4) for term in minilm(states, states)]
        [0.0, 0.0]
    """
    (ours, theirs), (our_values, their_values) = (
        [
            log_attention(states[a], states[b], causal=causal, padding=padding)
            for states in (student, teacher)
        ]
        for a, b in ((0, 1), (2, 2))
    )
    our_values, their_values = _as_many(our_values, their_values)
    relation = rows_apart(our_values, their_values, "minilm")
    return rows_apart(ours, theirs, "minilm"), relation


def _as_many(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Relations of values ``(N, G, T, T)``, those of fewer heads repeated as attention does it."""
    most = max(student.shape[1], teacher.shape[1])
    if any(most % each.shape[1] for each in (student, teacher)):
        return student, teacher
    ours, theirs = (each.repeat_interleave(most // each.shape[1], 1) for each in (student, teacher))
    return ours, theirs


@register("objective", "minilm")
class MiniLM(AbstractHeads):
    r"""MiniLM: in the last layer, attend as the teacher does, to values that relate as its do.

    .. math:: \frac{1}{H} \sum_h KL\big(A^t_{hi} \| A^s_{hi}\big)
        + \frac{1}{H} \sum_h KL\big(V^t_{hi} \| V^s_{hi}\big), \quad \text{mean over tokens } i

    Widths may differ, numbers of heads may not; where they do, use `MiniLMRelations`.

    Neighbours: `AttentionDistribution` is the first term alone, for any layers; `MiniLMRelations`
    takes relations of queries and of keys in place of attention.

    Suggested weight: 1 alone and without labels (the paper trains on nothing else).

    Scale: the paper's: a sum over keys, a mean over heads and tokens; both terms weigh alike. The
    paper takes the mean over each sequence first; here a token counts for the same in every
    sequence.

    Traps: those of `AttentionDistribution` (rotary positions, masks of answers). Relations of a
    causal model want ``causal: true``, as there is none to tokens that it cannot see. Values
    shared by groups of query heads are related once each where both networks have as many; else
    those of fewer are repeated, as attention does it. Packed projections of some models are not in
    the order queries, keys, values, or go head by head (GPT-NeoX, BLOOM): tap their parts.

    Args:
        heads: Query heads, as many in both networks; None where states are ``(N, heads, T, d)``.
        queries: Student's to teacher's queries, each ``(N, T, heads * d)`` or
            ``(N, heads, T, d)``: one pair, of the last layers (more are summed).
        keys: The same of keys, in the same order.
        values: The same of values.
        qkv: In their place, pairs of one packed projection ``(N, T, 3 * heads * d)``: all
            queries, then all keys, then all values.
        key_heads: Key and value heads, where several query heads share one; None for as many.
        causal: Whether a token sees only what is before it, in both kinds of relation.
        padding: Whether padded tokens are hidden as keys: those that ``attention_mask`` among the
            inputs leaves out or, where inputs have no names, the mask ``(N, T)``. As queries they
            never count; tokens of other documents in a packed row are always hidden.
        units: ``counted`` tokens, as the mask says, or all ``real`` ones (see
            `tutelage.objectives.hidden.tokens`).
    """

    name = "minilm"
    example: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "queries": {"query": "query"},
        "keys": {"key": "key"},
        "values": {"value": "value"},
    }

    def __init__(
        self,
        heads: Counts | None = None,
        queries: Pairs | None = None,
        keys: Pairs | None = None,
        values: Pairs | None = None,
        qkv: Pairs | None = None,
        key_heads: Counts | None = None,
        causal: bool = False,
        padding: bool = True,
        units: Units = "counted",
    ):
        given = {"queries": queries, "keys": keys, "values": values}
        super().__init__(given, qkv, heads, key_heads, causal=causal, padding=padding, units=units)

    def compare(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Tensor | None
    ) -> Tensor:
        """The sum of both terms of one layer, ``(N, T)``."""
        mine, other = (
            [
                split_heads(part, count, self.name)
                for part, count in zip(states, (heads, groups, groups), strict=True)
            ]
            for states, heads, groups in zip(
                (student, teacher), self.heads, self.key_heads, strict=True
            )
        )
        attention, relation = minilm(mine, other, causal=self.causal, padding=padding)
        return attention + relation
