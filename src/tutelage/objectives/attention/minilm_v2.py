"""MiniLMv2: how a layer's queries, keys and values relate among themselves.

Wang, Bao, Huang, Dong, Wei: MiniLMv2: Multi-Head Self-Attention Relation Distillation for
Compressing Pretrained Transformers, 2020, arXiv:2012.15828.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError
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
from tutelage.objectives.units import number, whole


def relation_divergence(
    student: Tensor,
    teacher: Tensor,
    heads: int,
    *,
    causal: bool = False,
    padding: Tensor | None = None,
) -> Tensor:
    r"""KL divergence of the relations among one kind of states, cut into relation heads.

    .. math:: \frac{1}{A_r} \sum_a KL\big(R^t_{ai} \| R^s_{ai}\big), \quad
        R_a = \sigma\big(x_a x_a^\top / \sqrt{d_r}\big), \; d_r = D / A_r

    Args:
        student: Queries, keys or values of all heads side by side, ``(N, T, D)``, or
            ``(N, heads, T, d)``.
        teacher: The same, of any width D'.
        heads: A_r, which divides both widths; not a number of heads of either network.
        causal: See `log_attention`.
        padding: See `log_attention`.

    Returns:
        ``(N, T)``, in nats.

    Raises:
        ShapeMismatch: A width is not divided by A_r, or there are not as many tokens.

    Example:
        >>> x = torch.rand(1, 3, 8)
        >>> bool((relation_divergence(x, x, 4).abs() < 1e-6).all())
        True
    """
    ours, theirs = (split_heads(_joined(x), heads, "minilm_v2") for x in (student, teacher))
    return rows_apart(
        log_attention(ours, ours, causal=causal, padding=padding),
        log_attention(theirs, theirs, causal=causal, padding=padding),
        "minilm_v2",
    )


def _joined(states: Tensor) -> Tensor:
    """``(N, heads, T, d)`` -> ``(N, T, heads * d)``."""
    return states.transpose(1, 2).flatten(2) if states.ndim == 4 else states


@register("objective", "minilm_v2")
class MiniLMRelations(AbstractHeads):
    r"""MiniLMv2: queries, keys and values of a layer each relate among themselves as the teacher's.

    .. math:: \sum_{x \in \{q, k, v\}} \alpha_x \frac{1}{A_r} \sum_a
        KL\big(R^t_{xai} \| R^s_{xai}\big), \quad \text{mean over tokens } i

    Widths and numbers of heads may differ: the states of all heads are cut anew into A_r.

    Neighbours: `MiniLM` is attention (queries with keys) and values, and needs as many heads;
    `AttentionDistribution` is attention alone.

    Suggested weight: 1 alone and without labels (the paper trains on nothing else), from the
    last layer of a base-size teacher, an upper middle one (21 of 24) of a large one.

    Scale: the paper's: a sum over tokens j, a mean over relation heads and tokens i. The three
    weigh alike unless told otherwise, as in the paper, which takes the mean over each sequence
    first; here a token counts for the same in every sequence.

    Traps: 48 relation heads are for a width of 768 (64 for 1024, the paper's choice): more heads
    give more detail, and fewer numbers each. With rotary positions, relations of the
    projections are without them, which both networks share. Relations of a causal model want
    ``causal: true``, as there is none to tokens that it cannot see. Of inputs without names a mask
    ``(N, T)`` is taken for that of padding; one of answers wants ``padding: false`` there.

    Args:
        relation_heads: A_r, which divides the widths of all states of both networks.
        queries: Student's to teacher's queries, each ``(N, T, D)`` or ``(N, heads, T, d)``: one
            pair, of the last layers (more are summed).
        keys: The same of keys, in the same order.
        values: The same of values.
        qkv: In their place, pairs of one packed projection ``(N, T, 3 * D)``: all queries, then
            all keys, then all values.
        heads: Query heads, needed only to unpack grouped ones; one number, or two (student's,
            teacher's).
        key_heads: Key and value heads, likewise; None for as many.
        weights: The three alphas, of queries, keys and values.
        causal: Whether a token is related only to what is before it.
        padding: Whether padded tokens are hidden as keys: those that ``attention_mask`` among the
            inputs leaves out or, where inputs have no names, the mask ``(N, T)``. As queries they
            never count; tokens of other documents in a packed row are always hidden.
        units: ``counted`` tokens, as the mask says, or all ``real`` ones (see
            `tutelage.objectives.hidden.tokens`).
    """

    name = "minilm_v2"
    example: ClassVar[Mapping[str, Any]] = {
        "relation_heads": 2,
        "queries": {"query": "query"},
        "keys": {"key": "key"},
        "values": {"value": "value"},
    }

    def __init__(
        self,
        relation_heads: int = 48,
        queries: Pairs | None = None,
        keys: Pairs | None = None,
        values: Pairs | None = None,
        qkv: Pairs | None = None,
        heads: Counts | None = None,
        key_heads: Counts | None = None,
        weights: Sequence[float] = (1.0, 1.0, 1.0),
        causal: bool = False,
        padding: bool = True,
        units: Units = "counted",
    ):
        given = {"queries": queries, "keys": keys, "values": values}
        super().__init__(given, qkv, heads, key_heads, causal=causal, padding=padding, units=units)
        self.relation_heads = whole(relation_heads, "relation_heads", self.name, least=1)
        if isinstance(weights, str) or not isinstance(weights, Sequence) or len(weights) != 3:
            raise RecipeError(f"{self.name}: weights must be three numbers, got {weights!r}.")
        self.weights = [number(each, "weights", self.name, least=0) for each in weights]

    def compare(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Tensor | None
    ) -> Tensor:
        """The weighted sum of the three relations of one layer, ``(N, T)``."""
        found = [
            weight
            * relation_divergence(
                ours, theirs, self.relation_heads, causal=self.causal, padding=padding
            )
            for weight, ours, theirs in zip(self.weights, student, teacher, strict=True)
        ]
        return torch.stack(found).sum(0)
