"""MarginMSE: how much better one passage answers a query than another.

Hofstätter, Althammer, Schröder, Sertkan, Hanbury: Improving Efficient Neural Ranking Models with
Cross-Architecture Knowledge Distillation, 2020, arXiv:2010.02666.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss, AbstractUnitLoss
from tutelage.objectives.contrastive.heads import variant_numbers, whole_examples
from tutelage.objectives.hidden.embedding import Embeddings
from tutelage.objectives.hidden.tokens import Pooling, one_of
from tutelage.objectives.relation.maps import unit_length
from tutelage.objectives.units import paired_logits, raised

Score = Literal["dot", "cosine"]
"""How a query's embedding scores a passage's."""


def margin_mse(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Mean squared difference of margins between the first passage and each other.

    .. math:: \frac{1}{K} \sum_{k=1}^{K} \big((s_0 - s_k) - (t_0 - t_k)\big)^2

    Args:
        student: Scores of the passages of each query, the relevant one first, ``(N, ..., 1 + K)``.
        teacher: The same shape.

    Returns:
        ``(N, ...)``, in squared units of the scores.

    Raises:
        ShapeMismatch: The shapes differ, or there is no other passage.

    Example:
        >>> margin_mse(torch.tensor([[3.0, 1.0]]), torch.tensor([[9.0, 8.0]]))
        tensor([1.])
    """
    student, teacher = paired_logits(student, teacher, "margin_mse")
    apart = student - teacher
    return (apart[..., :1] - apart[..., 1:]).square().mean(-1)


def triple_margins(
    student: Tensor, teacher: Tensor, queries: Tensor, passages: Tensor, others: Tensor
) -> Tensor:
    r"""Mean squared difference of margins over all triples of one query.

    .. math:: \mathrm{mean}_{(q, p, n)} \big((s_{qp} - s_{qn}) - (t_{qp} - t_{qn})\big)^2

    Args:
        student: Scores of all rows for each query, ``(Q, B)``.
        teacher: The same.
        queries: Which example each query is of, ``(Q,)``.
        passages: Which example a row is the relevant passage of, ``(B,)``; -1 for none.
        others: Which example a row is another passage of, ``(B,)``; -1 for none.

    Returns:
        A scalar; 0 where there is no triple.

    Example:
        >>> s, t = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([[0.0, 9.0, 8.0]])
        >>> good, bad = torch.tensor([-1, 4, -1]), torch.tensor([-1, -1, 4])
        >>> triple_margins(s, t, torch.tensor([4]), good, bad)
        tensor(1.)
    """
    apart = raised(student) - raised(teacher)
    good, bad = queries[:, None] == passages, queries[:, None] == others
    triples = good[:, :, None] & bad[:, None, :]
    squares = (apart[:, :, None] - apart[:, None, :]).square()
    kept = torch.where(triples, squares, squares.new_zeros(()))
    return kept.sum() / triples.sum().clamp(min=1)


@register("objective", "margin_mse")
class MarginMSE(AbstractUnitLoss):
    r"""MarginMSE: score the relevant passage as much above each other as the teacher does.

    .. math:: \frac{1}{K} \sum_{k=1}^{K} \big((s_0 - s_k) - (t_0 - t_k)\big)^2
        \quad (margin\_mse)

    Both networks answer a query with one score a passage, the relevant one first; their scales are
    compared, their zeros are not, so a bi-encoder learns from a cross-encoder.

    Neighbours: `EmbeddingMargins` takes scores from embeddings of queries and passages; `LogitMSE`
    compares the scores themselves, `SoftTarget` their softmax.

    Suggested weight: 1 alone, without labels (the paper, MS MARCO).

    Scale: the paper's; of several other passages the mean.

    Traps: scores must be on a scale that the student can reach: those of a cross-encoder are 10 or
    more apart, cosines at most 2.
    """

    name = "margin_mse"
    divergence = True

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a query."""
        return margin_mse(student.logits, dense(teacher, self.name))


@register("objective", "margin_mse_embeddings")
class EmbeddingMargins(AbstractLoss):
    r"""MarginMSE of embeddings: queries and passages are rows of one batch.

    .. math:: \mathrm{mean}_{(q, p, n)} \big((s_{qp} - s_{qn}) - (t_{qp} - t_{qn})\big)^2, \quad
        s_{qp} = e_q \cdot e_p \quad (triple\_margins)

    Rows of one query have its number in ``batch.ids``; ``batch.variant`` is 0 for the query, 1 for
    the relevant passage, 2 and more for others.

    Neighbours: `MarginMSE` is given scores; `PairwiseCosines` compares all pairs of a batch.

    Suggested weight: 1 alone, without labels (the paper, MS MARCO).

    Scale: the paper's, a mean over triples.

    Args:
        student: Student feature, ``(N, D)``, or states ``(N, T, D)`` to be pooled; None where its
            answer is the embedding.
        teacher: The teacher's; widths may differ.
        score: ``dot`` (the paper's) or ``cosine``.
        pool: How states become an embedding: the ``mean`` of the real tokens, the ``first``, the
            ``last``.
    """

    name = "margin_mse_embeddings"
    batchwise = True
    divergence = True
    needs_ids = True
    needs_variants = True
    example: ClassVar[Mapping[str, Any]] = {"score": "cosine"}

    def __init__(
        self,
        student: str | None = None,
        teacher: str | None = None,
        score: Score = "dot",
        pool: Pooling = "mean",
    ):
        super().__init__()
        self.read = Embeddings.named(student, teacher, pool, self.name)
        self.taps, self.needs_features = self.read.taps, any(self.read.taps)
        self.score = one_of(score, "score", Score, self.name)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The mean over the triples of which every row counts."""
        ids, variant = whole_examples(batch, self.name), variant_numbers(batch, self.name)
        if batch.mask is not None:
            ids, variant = ids[batch.mask], variant[batch.mask]
        scores = []
        for each in self.read.counted(student, teacher, batch):
            rows = unit_length(each) if self.score == "cosine" else each
            scores.append(rows[variant == 0] @ rows.T)
        passages, others = (torch.where(kind, ids, -1) for kind in (variant == 1, variant > 1))
        return triple_margins(scores[0], scores[1], ids[variant == 0], passages, others)
