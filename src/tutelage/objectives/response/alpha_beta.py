"""Alpha-beta divergence: two numbers say where the probability mass goes.

Wang, Yang, Wang, Wang, Xu, Huang: ABKD: Pursuing a Proper Allocation of the Probability Mass in
Knowledge Distillation via alpha-beta-Divergence, 2025, arXiv:2505.04560.
"""

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.response.log_space import Answer, answer_of, log_probabilities
from tutelage.objectives.units import number


def alpha_beta(
    student: Tensor,
    teacher: Answer,
    alpha: float = 0.8,
    beta: float = 0.3,
    temperature: float = 4.0,
) -> Tensor:
    r"""Alpha-beta divergence of tempered softmaxes, times :math:`T^2`.

    .. math:: \frac{-T^2}{\alpha \beta} \sum_c \Big[ p_c^\alpha q_c^\beta
        - \frac{\alpha}{\alpha + \beta} p_c^{\alpha + \beta}
        - \frac{\beta}{\alpha + \beta} q_c^{\alpha + \beta} \Big]

    Where alpha, beta or their sum is 0 its limit is meant: (1, 0) is the forward KL, (0, 1) the
    reverse, (0, 0) half the squared distance of log-probabilities. Divided out, and with
    d = log q - log p, it is one form for all of them but the last,

    .. math:: \frac{T^2}{\alpha} \sum_c p_c^{\alpha + \beta}
        \big[ \phi_{\alpha + \beta}(d_c) - \phi_\beta(d_c) \big], \quad
        \phi_x(d) = \frac{e^{x d} - 1}{x}, \; \phi_0(d) = d

    Exchanging alpha with beta and p with q changes nothing, so the division is by the larger.

    Args:
        student: Logits ``(N, ..., C)``, of which q is the softmax at T.
        teacher: Logits of the same shape, of which p is the softmax at T, or a sparse answer
            (over its k + 1 buckets, T = 1).
        alpha: Power of the teacher's probabilities.
        beta: Power of the student's.
        temperature: T > 0.

    Returns:
        Divergence of each unit, ``(N, ...)``; 0 where the two agree.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> from tutelage.objectives import soft_target
        >>> z = torch.tensor([[1.0, 2.0, 4.0]])
        >>> bool(alpha_beta(z, z.flip(-1), 1.0, 0.0).isclose(soft_target(z, z.flip(-1))))
        True
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, "alpha_beta")
    if alpha == 0 and beta == 0:
        return (log_q - log_p).square().sum(-1) * (temperature**2 / 2)
    if abs(alpha) < abs(beta):
        alpha, beta, log_p, log_q = beta, alpha, log_q, log_p
    total, gap = alpha + beta, log_q - log_p
    start = total * log_p
    grown = growth(total, gap, start) - growth(beta, gap, start)
    return grown.sum(-1) * (temperature**2 / alpha)


def growth(rate: float, gap: Tensor, start: Tensor) -> Tensor:
    """``exp(start) * (exp(rate * gap) - 1) / rate``; ``exp(start) * gap`` at rate 0."""
    if rate == 0:
        return start.exp() * gap
    change = rate * gap
    # A small change keeps its digits in expm1; a large one must meet its start before exp.
    little = start.exp() * change.clamp(max=1).expm1()
    much = (start + change).exp() - start.exp()
    return torch.where(change < 1, little, much) / rate


@register("objective", "alpha_beta")
class AlphaBeta(AbstractUnitLoss):
    r"""ABKD: a family with forward and reverse KL in it, and all that lies between.

    .. math:: \frac{-T^2}{\alpha \beta} \sum_c \Big[ p_c^\alpha q_c^\beta
        - \frac{\alpha}{\alpha + \beta} p_c^{\alpha + \beta}
        - \frac{\beta}{\alpha + \beta} q_c^{\alpha + \beta} \Big] \quad (alpha\_beta)

    A smaller alpha looks harder at classes on which the two differ much, a larger beta at classes
    of which the student is sure.

    Neighbours: `SoftTarget` is alpha = 1, beta = 0 and `ReverseKL` alpha = 0, beta = 1;
    `JensenShannon` lies between them on another road.

    Suggested weight: 2 at T = 4, alpha = 0.8, beta = 0.3 (the authors' script for ResNet-56 to
    ResNet-20 on CIFAR-100 has 32 without T squared) beside cross entropy.

    Scale: sum over classes, mean over units, T squared inside; the authors' code has none, so its
    weights are T² times ours.

    Deviations: where beta or alpha + beta is 0 the authors' code divides by alpha, and the limit
    by alpha squared (likewise for beta); here every limit is continuous. Traps: with a negative
    power or sum the value grows exponentially with the logit gap.

    Sparse answers (top k with tail) are compared over k + 1 buckets at T = 1.

    Args:
        alpha: Power of the teacher's probabilities.
        beta: Power of the student's.
        temperature: T > 0.
    """

    name = "alpha_beta"
    divergence = True

    def __init__(self, alpha: float = 0.8, beta: float = 0.3, temperature: float = 4.0):
        super().__init__()
        self.alpha = number(alpha, "alpha", self.name)
        self.beta = number(beta, "beta", self.name)
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        answers = answer_of(teacher)
        return alpha_beta(student.logits, answers, self.alpha, self.beta, self.temperature)
