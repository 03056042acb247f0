"""Generalised Jensen-Shannon divergence: both distributions against their mixture.

Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem: On-Policy Distillation of Language
Models: Learning from Self-Generated Mistakes, 2023, arXiv:2306.13649.
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


def jensen_shannon(
    student: Tensor, teacher: Answer, beta: float = 0.5, temperature: float = 1.0
) -> Tensor:
    r"""Divergence of both tempered softmaxes from their mixture, times :math:`T^2`.

    .. math:: T^2 \big[ \beta \, KL(p \| m) + (1 - \beta) \, KL(q \| m) \big], \quad
        m = \beta p + (1 - \beta) q

    Args:
        student: Logits ``(N, ..., C)``, of which q is the softmax at T.
        teacher: Logits of the same shape, of which p is the softmax at T, or a sparse answer
            (over its k + 1 buckets, T = 1).
        beta: Share of the teacher in the mixture, between 0 and 1.
        temperature: T > 0.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats: 0 where the two agree, and at most T²
        times the entropy of (beta, 1 - beta).

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 1e4]])
        >>> jensen_shannon(z, -z).item()
        0.693...
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "js")
    log_m = log_mixture(log_p, log_q, beta)
    both = beta * relative_entropy(log_p, log_m) + (1 - beta) * relative_entropy(log_q, log_m)
    return both * temperature**2


@register("objective", "js")
class JensenShannon(AbstractUnitLoss):
    r"""Generalised Jensen-Shannon divergence: between forward and reverse KL, and bounded.

    .. math:: T^2 \big[ \beta \, KL(p \| m) + (1 - \beta) \, KL(q \| m) \big] \quad
        (jensen\_shannon), \quad \text{mean over units}

    Neighbours: divided by beta it tends to `SoftTarget` as beta falls to 0, divided by 1 - beta to
    `ReverseKL` as beta rises to 1. `SkewKL` mixes too, and keeps one of the two terms.

    Suggested weight: 1 alone with beta = 0.5, T = 0.9 (trl's GKD, language models).

    Scale: sum over classes, mean over units, T squared inside; the paper has no temperature.

    Traps: the value and its gradient fall with beta (1 - beta), while trl switches to the whole KL
    at beta 0 and 1, a jump: both ends are refused here, and have names of their own. Bounded, so
    units on which the two contradict each other give all but no gradient.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        beta: Share of the teacher in the mixture, between 0 and 1.
        temperature: T > 0.
    """

    name = "js"
    divergence = True

    def __init__(self, beta: float = 0.5, temperature: float = 1.0):
        super().__init__()
        self.beta = number(beta, "beta", self.name)
        if not 0 < beta < 1:
            raise RecipeError(
                f"js: beta must be between 0 and 1, got {beta!r}: the ends are 'kd' (0) and "
                "'reverse_kl' (1)."
            )
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        answers = answer_of(teacher)
        return jensen_shannon(student.logits, answers, self.beta, self.temperature)
