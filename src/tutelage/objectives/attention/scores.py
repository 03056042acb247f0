"""TinyBERT's attention: the same scores before the softmax.

Jiao, Yin, Shang, Jiang, Chen, Li, Wang, Liu: TinyBERT: Distilling BERT for Natural Language
Understanding, 2019, arXiv:1909.10351.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tutelage.core.errors import ShapeMismatch
from tutelage.core.registry import register
from tutelage.objectives.attention.heads import (
    AbstractHeads,
    Counts,
    attention_scores,
    hidden_keys,
)
from tutelage.objectives.hidden.layers import spread
from tutelage.objectives.hidden.tokens import Units, one_of
from tutelage.objectives.pairs import Pairs

ScoreMeeting = Literal["each", "mean"]
"""Which heads of the student meet which of the teacher's."""


def score_error(
    student: Tensor, teacher: Tensor, hidden: Tensor | None = None, asker: str = "tinybert"
) -> Tensor:
    r"""Mean squared difference of attention scores over heads and the keys that a query sees.

    .. math:: \frac{1}{H |V_i|} \sum_h \sum_{j \in V_i} (a^s_{hij} - a^t_{hij})^2

    Args:
        student: Scores ``(N, H, T, S)``, see `attention_scores`.
        teacher: The same shape.
        hidden: Of bool, of a shape that fits ``(N, 1, T, S)``: keys that are not among V_i.
        asker: In whose name other shapes are refused.

    Returns:
        ``(N, T)``, in squared units of the scores; 0 where a query sees nothing.

    Raises:
        ShapeMismatch: There are not as many heads, or tokens.

    Example:
        >>> a = torch.tensor([[[[1.0, 5.0]]]])
        >>> score_error(a, torch.zeros(1, 1, 1, 2), torch.tensor([False, True]))
        tensor([[1.]])
    """
    if student.shape != teacher.shape:
        raise ShapeMismatch(
            f"{asker} compares scores of one shape (N, heads, T, S), and got "
            f"{tuple(student.shape)} from the student and {tuple(teacher.shape)} from the teacher: "
            "heads and tokens must be as many, or the heads brought together by meet: mean."
        )
    apart = student - teacher
    if hidden is not None:
        apart = apart.masked_fill(hidden, 0)
    sums: Tensor = torch.linalg.vecdot(apart, apart).mean(1)
    if hidden is None:
        return sums / apart.shape[-1]
    seen = (~hidden).expand(len(apart), 1, *apart.shape[2:])[:, 0].sum(-1)
    return sums / seen.clamp(min=1)


@register("objective", "tinybert_attention")
class AttentionScores(AbstractHeads):
    r"""TinyBERT's attention: each head scores the tokens as the teacher's head does.

    .. math:: \sum_{m} \lambda_m \frac{1}{H} \sum_h \mathrm{MSE}\big(A^s_{mh}, A^t_{g(m)h}\big),
        \quad A = q k^\top / \sqrt d

    Before the softmax, over pairs of real tokens alone: what a model hides is no score.

    Neighbours: `TinyBERT` is this with hidden states and answers; `AttentionDistribution` compares
    the softmax of these scores, `MiniLMRelations` needs neither as many heads nor the same keys.

    Suggested weight: 1 for each layer (the paper, GLUE), beside 1 of `TinyBERTStates`.

    Scale: the paper's: a mean over heads and pairs of tokens, a sum over layers; a token counts for
    the same in every sequence.

    Deviations: the authors' code takes pairs with padded tokens as zeros of both networks, which
    then count in the mean and make the loss of short texts small.

    Traps: those of `AttentionDistribution`. Scores are only as the models compute them where both
    scale by 1 / sqrt(d). They are known up to a number for each query alone, which the softmax
    does not see; two networks of one behaviour may differ here.

    Args:
        heads: Query heads; or two numbers, the student's and the teacher's; None where states are
            ``(N, heads, T, d)``.
        queries: Student's to teacher's queries, each ``(N, T, heads * d)`` or
            ``(N, heads, T, d)``; ``*`` for the number of a layer, such as
            ``{layers.*:queries: layers.*:queries}``. Sizes of heads may differ.
        keys: The same of keys, in the same order.
        qkv: In their place, pairs of one packed projection ``(N, T, 3 * heads * d)``: all
            queries, then all keys, then all values.
        key_heads: Key heads, where several query heads share one; None for as many.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there: ``skip`` spreads them evenly, ``last``, ``end``.
        meet: ``each`` head one of the teacher's; where they are not as many, ``mean`` compares
            the heads' mean scores.
        weights: One number at least 0 for each layer, in their order (the paper's lambda); 1 where
            left out.
        causal: Whether a token sees only what is before it.
        padding: Whether padded tokens are hidden as keys: those that ``attention_mask`` among the
            inputs leaves out or, where inputs have no names, the mask ``(N, T)``. As queries they
            never count; tokens of other documents in a packed row are always hidden.
        units: ``counted`` tokens, as the mask says, or all ``real`` ones (see
            `tutelage.objectives.hidden.tokens`).
    """

    name = "tinybert_attention"
    example: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "queries": {"query": "query"},
        "keys": {"key": "key"},
        "weights": [0.05],
    }

    def __init__(
        self,
        heads: Counts | None = None,
        queries: Pairs | None = None,
        keys: Pairs | None = None,
        qkv: Pairs | None = None,
        key_heads: Counts | None = None,
        *,
        layers: Sequence[int] | None = None,
        order: str = "skip",
        meet: ScoreMeeting = "each",
        weights: Sequence[float] | None = None,
        causal: bool = False,
        padding: bool = True,
        units: Units = "counted",
    ):
        given = {
            option: spread(pairs, layers, self.name, order)
            for option, pairs in (("queries", queries), ("keys", keys))
        }
        packed = spread(qkv, layers, self.name, order)
        seeing: dict[str, Any] = {"causal": causal, "padding": padding, "units": units}
        super().__init__(given, packed, heads, key_heads, weights=weights, **seeing)
        self.meet = one_of(meet, "meet", ScoreMeeting, self.name)

    def compare(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Tensor | None
    ) -> Tensor:
        """The error of one layer, ``(N, T)``."""
        found = [attention_scores(*each) for each in self.queries_and_keys(student, teacher)]
        if self.meet == "mean":
            found = [scores.mean(1, keepdim=True) for scores in found]
        hidden = hidden_keys(found[0], self.causal, padding)
        return score_error(found[0], found[1], hidden, self.name)
