"""Skewed KL divergences: mix a little of the one into the other, and both ends stay finite.

Ko, Kim, Chen, Yun: DistiLLM: Towards Streamlined Distillation for Large Language Models, 2024,
arXiv:2402.03898.
"""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.response.log_space import (
    Answer,
    answer_of,
    log_mixture,
    log_probabilities,
    relative_entropy,
)
from tutelage.objectives.units import number


def skew_kl(
    student: Tensor, teacher: Answer, alpha: float = 0.1, temperature: float = 1.0
) -> Tensor:
    r"""KL divergence of the teacher from a mixture of both, times :math:`T^2`.

    .. math:: T^2 \, KL\big(p \,\|\, \alpha p + (1 - \alpha) q\big), \quad
        p = \sigma(z_{teacher} / T), \; q = \sigma(z_{student} / T)

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape, or a sparse answer (over its k + 1 buckets, T = 1).
        alpha: Share of the teacher in the mixture, from 0 (plain KL) to below 1.
        temperature: T > 0.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats: 0 where the two agree, and at most
        T² log(1 / alpha).

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 1e4]])
        >>> skew_kl(z, -z).item()
        2.302...
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "skew_kl")
    return relative_entropy(log_p, log_mixture(log_p, log_q, alpha)) * temperature**2


def skew_reverse_kl(
    student: Tensor, teacher: Answer, alpha: float = 0.1, temperature: float = 1.0
) -> Tensor:
    r"""KL divergence of the student from a mixture of both, times :math:`T^2`.

    .. math:: T^2 \, KL\big(q \,\|\, \alpha q + (1 - \alpha) p\big), \quad
        p = \sigma(z_{teacher} / T), \; q = \sigma(z_{student} / T)

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape, or a sparse answer (over its k + 1 buckets, T = 1).
        alpha: Share of the student in the mixture, from 0 (plain reverse KL) to below 1.
        temperature: T > 0.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats: 0 where the two agree, and at most
        T² log(1 / alpha).

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 1e4]])
        >>> skew_reverse_kl(z, -z).item()
        2.302...
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "skew_reverse_kl")
    return relative_entropy(log_q, log_mixture(log_q, log_p, alpha)) * temperature**2


class AbstractSkewed(AbstractUnitLoss):
    """What the two directions share: their options."""

    divergence = True

    def __init__(self, alpha: float = 0.1, temperature: float = 1.0):
        super().__init__()
        self.alpha = number(alpha, "alpha", self.name, least=0)
        if self.alpha >= 1:
            raise RecipeError(
                f"{self.name}: alpha must be at least 0 and below 1, got {alpha!r}: at 1 the "
                "divergence is 0 everywhere."
            )
        self.temperature = number(temperature, "temperature", self.name, above=0)


@register("objective", "skew_kl")
class SkewKL(AbstractSkewed):
    r"""Skewed KL: forward KL whose gradient stays bounded where the student has no mass.

    .. math:: T^2 \, KL\big(p^T \,\|\, \alpha p^T + (1 - \alpha) q^T\big) \quad (skew\_kl)

    Neighbours: `SoftTarget` is alpha = 0; `SkewReverseKL` is the other direction; `JensenShannon`
    takes both distributions against one mixture.

    Suggested weight: 1 alone with alpha = 0.1, T = 1 (the authors' language models).

    Scale: sum over classes, mean over units, T squared inside; the paper has no temperature. Near
    agreement it is (1 - alpha)² times `SoftTarget`.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        alpha: Share of the teacher in the mixture, from 0 to below 1.
        temperature: T > 0.
    """

    name = "skew_kl"

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        return skew_kl(student.logits, answer_of(teacher), self.alpha, self.temperature)


@register("objective", "skew_reverse_kl")
class SkewReverseKL(AbstractSkewed):
    r"""Skewed reverse KL: reverse KL that stays bounded where the teacher has no mass.

    .. math:: T^2 \, KL\big(q^T \,\|\, \alpha q^T + (1 - \alpha) p^T\big) \quad (skew\_reverse\_kl)

    Neighbours: `ReverseKL` is alpha = 0; `SkewKL` is the other direction.

    Suggested weight: 1 alone with alpha = 0.1, T = 1 (the authors' language models).

    Scale: sum over classes, mean over units, T squared inside; the paper has no temperature. Near
    agreement it is (1 - alpha)² times `ReverseKL`.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        alpha: Share of the student in the mixture, from 0 to below 1.
        temperature: T > 0.
    """

    name = "skew_reverse_kl"

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        return skew_reverse_kl(student.logits, answer_of(teacher), self.alpha, self.temperature)
