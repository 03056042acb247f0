"""Adaptive KL divergence: forward KL for the head of the distribution, reverse KL for its tail.

Wu, Tao, Wang, Yang, Zhao, Wong: Rethinking Kullback-Leibler Divergence in Knowledge Distillation
for Large Language Models, 2024, arXiv:2404.02657.
"""

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.response.log_space import (
    Answer,
    answer_of,
    log_probabilities,
    relative_entropy,
)
from tutelage.objectives.units import number

_AT_FIRST = 64  # likeliest classes that nearly always reach half of the mass


def adaptive_kl(
    student: Tensor, teacher: Answer, head: float = 0.5, temperature: float = 1.0
) -> Tensor:
    r"""Forward and reverse KL, weighed by where the two disagree, times :math:`T^2`.

    .. math:: \frac{T^2}{g_H + g_{\bar H}} \big[ g_H \, KL(p \| q) + g_{\bar H} \, KL(q \| p) \big],
        \quad g_S = \sum_{c \in S} |p_c - q_c|

    The head H is the likeliest class of the teacher and those after it, in order, as long as their
    probabilities together are at most ``head``. No gradient goes through the weights.

    Args:
        student: Logits ``(N, ..., C)``, of which q is the softmax at T.
        teacher: Logits of the same shape, of which p is the softmax at T, or a sparse answer
            (over its k + 1 buckets, T = 1; the tail is never of the head).
        head: Mass of the head, between 0 and 1.
        temperature: T > 0.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats; 0 where the two agree.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> z = torch.tensor([[0.7, 0.2, 0.1]]).log()
        >>> adaptive_kl(z, z).abs().item() < 1e-6
        True
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "adaptive_kl")
    with torch.no_grad():
        p, q = log_p.exp(), log_q.exp()
        sparse = isinstance(teacher, SparseOutputs)
        likeliest = p[..., : teacher.top.shape[-1]] if sparse else p  # type: ignore[union-attr]
        apart = (p - q).abs()
        whole = apart.sum(-1)
        agree = whole == 0
        share = _head_sum(likeliest, apart, head) / whole.masked_fill(agree, 1.0)
        share = share.masked_fill(agree, 0.5)
    both = share * relative_entropy(log_p, log_q) + (1 - share) * relative_entropy(log_q, log_p)
    return both * temperature**2


def _head_sum(p: Tensor, apart: Tensor, head: float) -> Tensor:
    """The sum of ``apart`` over the head of ``p``, ``(N, ..., C)`` -> ``(N, ...)``."""
    classes = p.shape[-1]
    found = p.topk(min(_AT_FIRST, classes), dim=-1)
    if found.values.shape[-1] < classes and bool((found.values.sum(-1) <= head).any()):
        found = p.topk(classes, dim=-1)
    inside = found.values.cumsum(-1) <= head
    inside[..., 0] = True
    return (apart.gather(-1, found.indices) * inside).sum(-1)


@register("objective", "adaptive_kl")
class AdaptiveKL(AbstractUnitLoss):
    r"""AKL: forward KL where the head of the teacher's distribution is missed, reverse KL else.

    .. math:: \frac{T^2}{g_H + g_{\bar H}} \big[ g_H \, KL(p^T \| q^T) + g_{\bar H} \,
        KL(q^T \| p^T) \big] \quad (adaptive\_kl), \quad \text{mean over units}

    Neighbours: `SoftTarget` and `ReverseKL` are its two parts; `JensenShannon`, `SkewKL` and
    `AlphaBeta` lie between the two by a fixed option, this by each unit's own errors.

    Suggested weight: 1 alone at T = 1 with head = 0.5 (the authors' language models).

    Scale: sum over classes, mean over units, T squared inside; the paper has no temperature.

    Traps: the head is found by sorting, so of nearly equal classes at its edge a small change of
    the teacher moves weight between the two parts. Deviations: where both agree exactly the
    authors' code divides 0 by 0; here it is 0.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        head: The teacher's mass that is its head, between 0 and 1.
        temperature: T > 0.
    """

    name = "adaptive_kl"
    divergence = True

    def __init__(self, head: float = 0.5, temperature: float = 1.0):
        super().__init__()
        self.head = number(head, "head", self.name, above=0)
        if self.head >= 1:
            raise RecipeError(f"adaptive_kl: head must be between 0 and 1, got {head!r}.")
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        return adaptive_kl(student.logits, answer_of(teacher), self.head, self.temperature)
