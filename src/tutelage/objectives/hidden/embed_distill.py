"""EmbedDistill: a text's embedding is where the teacher's is.

Kim, Rawat, Zaheer, Jayasumana, Sadhanala, Jitkrittum, Menon, Fergus, Kumar: EmbedDistill: A
Geometric Knowledge Distillation for Information Retrieval, 2023, arXiv:2301.12005.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.held import bound, keep_or_adapt
from tutelage.objectives.hidden.embedding import Embeddings
from tutelage.objectives.hidden.tokens import Pooling, one_of
from tutelage.objectives.matching.distances import cosine_distance
from tutelage.objectives.paired import Adapter, maker_of
from tutelage.objectives.units import paired

Measure = Literal["norm", "mse", "cosine"]
"""How far two embeddings are from each other."""


def embedding_distance(student: Tensor, teacher: Tensor, measure: Measure = "norm") -> Tensor:
    r"""How far each embedding is from the teacher's.

    .. math:: \|s - t\|_2, \quad \frac{1}{D} \|s - t\|_2^2, \quad 1 - \cos \angle(s, t)

    Args:
        student: ``(N, D)``.
        teacher: The same shape.
        measure: ``norm``, ``mse`` or ``cosine``, in that order above.

    Returns:
        ``(N,)``, in units of the embedding, their squares, or none.

    Raises:
        ShapeMismatch: The shapes differ.

    Example:
        >>> s, t = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
        >>> [embedding_distance(s, t, each).item() for each in ("norm", "mse", "cosine")]
        [5.0, 12.5, 1.0]
    """
    student, teacher = paired(student, teacher, "embed_distill")
    if measure == "cosine":
        return cosine_distance(student, teacher)
    if measure == "mse":
        return (student - teacher).square().mean(-1)
    found: Tensor = torch.linalg.vector_norm(student - teacher, dim=-1)
    return found


@register("objective", "embed_distill")
class EmbedDistill(AbstractUnitLoss):
    r"""EmbedDistill: each text's embedding, projected, is where the teacher's is.

    .. math:: \big\| W s - t \big\|_2 \quad (embedding\_distance)

    Neighbours: `PairwiseCosines` and `RankedSimilarities` compare texts with each other, so that no
    projection is needed; `MarginMSE` compares scores; `Matryoshka` asks for it of the first numbers
    of an embedding too.

    Suggested weight: 1 alone, on unlabelled queries and documents (the paper adds it to
    distillation of scores).

    Scale: the paper's: the distance itself, a mean over texts. ``mse`` is its square over D.

    Traps: with an adapter the student's embeddings are not in the teacher's space, and cannot be
    searched for in an index of the teacher's; without one they are. Embeddings that are normalised
    already differ by little: their ``cosine`` is half the squared norm.

    Args:
        student: Student feature, ``(N, D)``, or states ``(N, T, D)`` to be pooled; None where its
            answer is the embedding.
        teacher: The teacher's.
        measure: ``norm`` (the paper's), ``mse`` or ``cosine``.
        pool: How states become an embedding: the ``mean`` of the real tokens, the ``first``, the
            ``last``.
        adapter: The projection W, such as ``linear``; see `Match`. None compares as they are.
    """

    name = "embed_distill"

    def __init__(
        self,
        student: str | None = None,
        teacher: str | None = None,
        measure: Measure = "norm",
        pool: Pooling = "mean",
        adapter: Adapter = None,
    ):
        super().__init__()
        self.read = Embeddings.named(student, teacher, pool, self.name)
        self.taps, self.needs_features = self.read.taps, any(self.read.taps)
        self.measure: Measure = one_of(measure, "measure", Measure, self.name)  # type: ignore[assignment]
        self.adapters = nn.ModuleDict()
        self._maker = maker_of(adapter, self.name)
        self.divergence = adapter is None

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make the projection."""
        nothing = Batch(student.logits)
        ours, theirs = self.read.of(student.float(), teacher.float(), nothing)
        keep_or_adapt(self.adapters, "embedding", self._maker, ours, theirs)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a text."""
        ours, theirs = self.read.of(student, teacher, batch)
        ours = bound(self.adapters, "embedding", self.name)(ours)
        return embedding_distance(ours, theirs, self.measure)
