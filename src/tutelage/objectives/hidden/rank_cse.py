"""Which other texts of the batch a text is most like, in the teacher's order.

Liu, Liu, Wang, Wang, Wu, Xian, Zhao, Chen, Yan: RankCSE: Unsupervised Sentence Representations
Learning via Learning to Rank, 2023, arXiv:2305.16726.
"""

import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.hidden.embedding import Embeddings
from tutelage.objectives.hidden.tokens import Pooling
from tutelage.objectives.relation.abstract import cosines
from tutelage.objectives.units import number


def ranked_similarities(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 0.05,
    teacher_temperature: float | None = None,
) -> Tensor:
    r"""KL divergence of each text's likeness to the others from the teacher's.

    .. math:: KL\big(\sigma_{j \ne i}(c^t_{ij} / T') \,\|\, \sigma_{j \ne i}(c^s_{ij} / T)\big),
        \quad c_{ij} = \cos \angle(x_i, x_j)

    Args:
        student: ``(B, D)``.
        teacher: ``(B, D')``.
        temperature: T > 0, the student's.
        teacher_temperature: T' > 0, the teacher's; as the student's if None.

    Returns:
        ``(B,)``, in nats; 0 where there is no other text, or one.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> ranked_similarities(x, 3 * x).abs().max().item() < 1e-6
        True
    """
    ours, theirs = (_others(cosines(each)) for each in (student, teacher))
    log_q = F.log_softmax(ours / temperature, dim=1)
    log_p = F.log_softmax(theirs / (teacher_temperature or temperature), dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def _others(square: Tensor) -> Tensor:
    """A matrix ``(B, B)`` without its diagonal, ``(B, B - 1)``."""
    count = len(square)
    if count < 2:
        return square[:, :0]
    return square.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)


@register("objective", "rank_cse")
class RankedSimilarities(AbstractLoss):
    r"""RankCSE's distillation: rank the batch's texts by likeness as the teacher does.

    .. math:: KL\big(\sigma_{j \ne i}(c^t_{ij} / T') \,\|\, \sigma_{j \ne i}(c^s_{ij} / T)\big),
        \quad \text{mean over texts } i \quad (ranked\_similarities)

    ListNet's loss, less the entropy of the teacher's ranking, which is no matter to the gradient.

    Neighbours: `Seed` ranks a queue of earlier texts, not the batch; `Probabilistic` has kernels in
    place of the softmax; `PairwiseCosines` takes all pairs alike, however unlike they are.

    Suggested weight: 1 beside a contrastive loss, or alone on unlabelled texts.

    Scale: the paper's, a mean over texts; no T squared.

    Deviations: a text is not ranked against itself, whose cosine is 1 for both networks; one view
    of each text, where the paper ranks one view against another.

    Traps: at low temperatures only the nearest texts count; the batch must hold some.

    Args:
        student: Student feature, ``(N, D)``, or states ``(N, T, D)`` to be pooled; None where its
            answer is the embedding.
        teacher: The teacher's; widths may differ.
        temperature: T > 0, of the student's cosines.
        teacher_temperature: T' > 0, of the teacher's; as the student's if None.
        pool: How states become an embedding: the ``mean`` of the real tokens, the ``first``, the
            ``last``.
    """

    name = "rank_cse"
    batchwise = True

    def __init__(
        self,
        student: str | None = None,
        teacher: str | None = None,
        temperature: float = 0.05,
        teacher_temperature: float | None = None,
        pool: Pooling = "mean",
    ):
        super().__init__()
        self.read = Embeddings.named(student, teacher, pool, self.name)
        self.taps, self.needs_features = self.read.taps, any(self.read.taps)
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.teacher_temperature = self.temperature
        if teacher_temperature is not None:
            self.teacher_temperature = number(
                teacher_temperature, "teacher_temperature", self.name, above=0
            )
        self.divergence = self.temperature == self.teacher_temperature

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The mean over texts."""
        ours, theirs = self.read.counted(student, teacher, batch)
        values = ranked_similarities(ours, theirs, self.temperature, self.teacher_temperature)
        return values.sum() / max(len(values), 1)
