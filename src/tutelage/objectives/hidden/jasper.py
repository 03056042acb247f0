"""Cosines between texts are the teacher's.

Zhang, Li, Zeng, Wang: Jasper and Stella: distillation of SOTA embedding models, 2024,
arXiv:2412.19048.
"""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.hidden.embedding import Embeddings
from tutelage.objectives.hidden.tokens import Pooling
from tutelage.objectives.relation.abstract import cosines


def cosine_error(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Mean squared difference of the cosines between all texts of a batch.

    .. math:: \frac{1}{B^2} \sum_{ij} \big(\cos \angle(s_i, s_j) - \cos \angle(t_i, t_j)\big)^2

    Args:
        student: ``(B, D)``.
        teacher: ``(B, D')``.

    Returns:
        A scalar without unit, 0 to 4; 0 where there is one text, or none.

    Example:
        >>> import torch
        >>> cosine_error(torch.eye(2), torch.ones(2, 5))
        tensor(0.5000)
    """
    squares = (cosines(student) - cosines(teacher)).square()
    return squares.sum() / max(squares.numel(), 1)


@register("objective", "pairwise_cosines")
class PairwiseCosines(AbstractLoss):
    r"""Similarity loss of Jasper: texts are as alike as the teacher finds them.

    .. math:: \frac{1}{B^2} \sum_{ij} \big(\cos \angle(s_i, s_j) - \cos \angle(t_i, t_j)\big)^2

    Neighbours: `Similarity` compares inner products, each row at unit length;
    `RankedSimilarities` the softmax of these cosines, so that the nearest texts matter most;
    `EmbedDistill` each text's own place.

    Suggested weight: 200 beside 10 of ``embed_distill`` with ``measure: cosine`` (the paper).

    Scale: the paper's: a mean over all pairs of the batch, each text with itself among them.

    Args:
        student: Student feature, ``(N, D)``, or states ``(N, T, D)`` to be pooled; None where its
            answer is the embedding.
        teacher: The teacher's; widths may differ.
        pool: How states become an embedding: the ``mean`` of the real tokens, the ``first``, the
            ``last``.
    """

    name = "pairwise_cosines"
    batchwise = True
    divergence = True

    def __init__(
        self, student: str | None = None, teacher: str | None = None, pool: Pooling = "mean"
    ):
        super().__init__()
        self.read = Embeddings.named(student, teacher, pool, self.name)
        self.taps, self.needs_features = self.read.taps, any(self.read.taps)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value of the whole batch."""
        return cosine_error(*self.read.counted(student, teacher, batch))
