"""Total variation distance: the largest disagreement on the probability of any set of classes.

Wen, Li, Du, Mou: f-Divergence Minimization for Sequence-Level Knowledge Distillation, 2023,
arXiv:2307.15190.
"""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.response.log_space import Answer, answer_of, log_probabilities
from tutelage.objectives.units import number


def total_variation(student: Tensor, teacher: Answer, temperature: float = 1.0) -> Tensor:
    r"""Half the sum of differences of tempered softmaxes, times T.

    .. math:: \frac{T}{2} \sum_c |p_c - q_c|, \quad
        p = \sigma(z_{teacher} / T), \; q = \sigma(z_{student} / T)

    It is of first order in the logits' difference, where divergences are of second: T, not T²,
    keeps its gradient's size.

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape, or a sparse answer (over its k + 1 buckets, T = 1).
        temperature: T > 0.

    Returns:
        Distance of each unit, ``(N, ...)``, a probability times T: 0 where the two agree.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 1e4]])
        >>> total_variation(z, -z).item()
        1.0
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "tvd")
    return (log_p.exp() - log_q.exp()).abs().sum(-1) * (temperature / 2)


@register("objective", "tvd")
class TotalVariation(AbstractUnitLoss):
    r"""Total variation: symmetric, bounded, and indifferent to how rare a class is.

    .. math:: \frac{T}{2} \sum_c |p_c - q_c| \quad (total\_variation), \quad \text{mean over units}

    Neighbours: `SoftTarget` and `ReverseKL` look at ratios of probabilities, this at differences;
    `JensenShannon` is as symmetric, and smooth at agreement.

    Suggested weight: 1 alone at T = 1 (f-distill, text generation).

    Scale: half a sum over classes, mean over units, as in the paper; T inside, not T squared (see
    the function).

    Traps: the gradient does not shrink near agreement, so the student circles around it at the
    size of the learning rate; and it vanishes where the two contradict each other. Deviation:
    computed at each given position, not on sequences sampled from the student and the teacher.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        temperature: T > 0.
    """

    name = "tvd"
    divergence = True

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        return total_variation(student.logits, answer_of(teacher), self.temperature)
