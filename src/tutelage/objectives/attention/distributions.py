"""Attention distributions: each token looks where it does in the teacher.

Aguilar, Ling, Zhang, Yao, Fan, Guo: Knowledge Distillation from Internal Representations, 2019,
arXiv:1910.03723.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.objectives.attention.heads import (
    AbstractHeads,
    Counts,
    log_attention,
    rows_apart,
)
from tutelage.objectives.hidden.tokens import Units
from tutelage.objectives.pairs import Pairs

Meeting = Literal["each", "mean", "first"]
"""Which heads of the student meet which of the teacher's."""


def attention_divergence(student: Tensor, teacher: Tensor, meet: Meeting = "each") -> Tensor:
    r"""KL divergence of each token's attention from the teacher's.

    .. math:: \frac{1}{H} \sum_h \sum_j p_{hij} \log \frac{p_{hij}}{q_{hij}}

    Args:
        student: Log-probabilities ``(N, H, T, S)``, see `log_attention`.
        teacher: ``(N, H', T, S)``.
        meet: ``each`` head one of the teacher's, as many of both; ``mean``: the heads' mean
            distributions; ``first``: the first heads of both, as many as the fewer are.

    Returns:
        ``(N, T)``, in nats.

    Raises:
        ShapeMismatch: There are not as many heads, or tokens.

    Example:
        >>> import torch
        >>> a = torch.tensor([[[[0.5, 0.5]]]]).log()
        >>> attention_divergence(a.expand(1, 3, 1, 2), a, "mean").abs().item() < 1e-6
        True
    """
    if meet == "mean":
        student, teacher = _mean(student), _mean(teacher)
    elif meet == "first":
        fewer = min(student.shape[1], teacher.shape[1])
        student, teacher = student[:, :fewer], teacher[:, :fewer]
    return rows_apart(student, teacher, "attention_kl")


def _mean(logs: Tensor) -> Tensor:
    """Log of the heads' mean distribution, ``(N, 1, T, S)``."""
    return logs.logsumexp(1, keepdim=True) - math.log(logs.shape[1])


@register("objective", "attention_kl")
class AttentionDistribution(AbstractHeads):
    r"""Attention KL: each token attends to what it attends to in the teacher.

    .. math:: \sum_{layers} \frac{1}{H} \sum_h KL\big(P_{hi} \,\|\, Q_{hi}\big), \quad
        P = \sigma\big(q k^\top / \sqrt d\big), \quad \text{mean over tokens } i

    The matrices are computed from queries and keys, so models may use fused attention, which has
    none to tap, and grouped heads.

    Neighbours: `MiniLM` adds relations between values, on the last layer; `MiniLMRelations` needs
    neither as many heads nor the same keys; `Attention` is about convolutional maps.

    Suggested weight: 1 for each layer, beside the cosine distance of the layers' first tokens (the
    paper weighs both alike, on GLUE).

    Scale: the paper's: a sum over keys, a mean over heads and tokens, a sum over layers. The paper
    takes the mean over each sequence first; here a token counts for the same in every sequence.

    Traps: models with rotary positions rotate queries and keys after their projections, so the
    outputs of ``q_proj`` and ``k_proj`` give attention without positions: tap what the fused
    call is given, ``scaled_dot_product_attention()#0:in.0`` and ``:in.1``, the first call being
    the first layer (keys may be repeated there already: then key_heads is heads). Some
    models scale by another number than 1 / sqrt(d), or add a bias of positions (T5, Swin): neither
    is seen here. Of inputs without names a mask ``(N, T)`` is taken for that of padding: where it
    keeps only some tokens for the loss, such as the answer, set ``padding: false``, or the
    question would be hidden.

    Args:
        heads: Query heads; or two numbers, the student's and the teacher's; None where states are
            ``(N, heads, T, d)``.
        queries: Student's to teacher's queries, each ``(N, T, heads * d)`` or
            ``(N, heads, T, d)``; sizes of heads may differ. One pair a layer.
        keys: The same of keys, in the same order.
        qkv: In their place, pairs of one packed projection ``(N, T, 3 * heads * d)``: all
            queries, then all keys, then all values.
        key_heads: Key heads, where several query heads share one; None for as many.
        meet: ``each`` head one of the teacher's; where they are not as many, ``mean`` compares
            the heads' mean distributions, ``first`` the first heads of both.
        causal: Whether a token sees only what is before it.
        padding: Whether padded tokens are hidden as keys: those that ``attention_mask`` among the
            inputs leaves out or, where inputs have no names, the mask ``(N, T)``. As queries they
            never count; tokens of other documents in a packed row are always hidden.
        units: ``counted`` tokens, as the mask says, or all ``real`` ones (see
            `tutelage.objectives.hidden.tokens`).
    """

    name = "attention_kl"
    example: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "queries": {"query": "query"},
        "keys": {"key": "key"},
    }

    def __init__(
        self,
        heads: Counts | None = None,
        queries: Pairs | None = None,
        keys: Pairs | None = None,
        qkv: Pairs | None = None,
        key_heads: Counts | None = None,
        meet: Meeting = "each",
        causal: bool = False,
        padding: bool = True,
        units: Units = "counted",
    ):
        given = {"queries": queries, "keys": keys}
        super().__init__(given, qkv, heads, key_heads, causal=causal, padding=padding, units=units)
        if meet not in get_args(Meeting):
            raise RecipeError(f"{self.name}: meet must be each, mean or first, got {meet!r}.")
        self.meet = meet

    def compare(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Tensor | None
    ) -> Tensor:
        """The divergence of one layer, ``(N, T)``."""
        ours, theirs = (
            log_attention(*each, causal=self.causal, padding=padding)
            for each in self.queries_and_keys(student, teacher)
        )
        return attention_divergence(ours, theirs, self.meet)
