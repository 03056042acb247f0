"""Reverse KL divergence: put no mass where the teacher has none.

Gu, Dong, Wei, Huang: MiniLLM: Knowledge Distillation of Large Language Models, 2023,
arXiv:2306.08543.
"""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.response.log_space import (
    Answer,
    answer_of,
    log_probabilities,
    relative_entropy,
)
from tutelage.objectives.units import number


def reverse_kl(student: Tensor, teacher: Answer, temperature: float = 1.0) -> Tensor:
    r"""Reverse KL divergence of tempered softmaxes, times :math:`T^2`.

    .. math:: T^2 \sum_c q_c \log \frac{q_c}{p_c}, \quad
        p = \sigma(z_{teacher} / T), \; q = \sigma(z_{student} / T)

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape, or a sparse answer (over its k + 1 buckets, T = 1).
        temperature: T > 0.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats; 0 where the two agree.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> import torch
        >>> even, sure = torch.zeros(1, 2), torch.tensor([[0.0, 100.0]])
        >>> reverse_kl(even, sure).item(), reverse_kl(sure, even).item()
        (49.306..., 0.693...)
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "reverse_kl")
    return relative_entropy(log_q, log_p) * temperature**2


@register("objective", "reverse_kl")
class ReverseKL(AbstractUnitLoss):
    r"""Reverse KL: the student may leave answers of the teacher out, and may invent none.

    .. math:: T^2 \, KL(q^T \| p^T) \quad (reverse\_kl), \quad \text{mean over units}

    Neighbours: `SoftTarget` is the other direction, which covers every answer of the teacher, at
    the price of mass between them. `SkewReverseKL` bounds this one, `JensenShannon` and
    `AlphaBeta` lie between both.

    Suggested weight: 1 alone at T = 1 (MiniLLM, language models distilled on their own answers).

    Scale: sum over classes, mean over units, T squared inside, as in `SoftTarget`; the paper has
    no temperature.

    Traps: a student that is wrong with confidence has all but no gradient: start from a trained
    student, or mix with `SoftTarget`. Deviations: the paper takes the divergence of whole
    sequences drawn from the student, by policy gradients; this is its term at each given position,
    exact over the classes.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        temperature: T > 0.
    """

    name = "reverse_kl"
    divergence = True

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        return reverse_kl(student.logits, answer_of(teacher), self.temperature)
