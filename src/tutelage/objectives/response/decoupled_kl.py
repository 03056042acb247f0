"""KL divergence taken apart: differences of logits, and soft labels.

Cui, Tian, Zhong, Qi, Yu, Zhang: Decoupled Kullback-Leibler Divergence Loss, 2023,
arXiv:2305.13948.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.held import unbound
from tutelage.objectives.units import class_numbers, number, paired, paired_logits, raised


def difference_spread(difference: Tensor, weights: Tensor) -> Tensor:
    r"""The weighted squared error of all pairwise logit differences, without making the pairs.

    .. math:: \frac{1}{4} \sum_{j,k} w_j w_k
        \big( (m_j - m_k) - (n_j - n_k) \big)^2
        = \frac{1}{2} \sum_j w_j (d_j - \bar d)^2, \quad d = m - n, \; \bar d = \sum_j w_j d_j

    Args:
        difference: d, ``(N, ..., C)``: logits of the one network minus those of the other.
        weights: w, of the same shape, positive with a sum of 1 over the classes.

    Returns:
        Half the weighted variance of each unit, ``(N, ...)``, in squared logits.

    Example:
        >>> d, w = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.5, 0.5]])
        >>> difference_spread(d, w)
        tensor([0.5000])
    """
    difference, weights = paired(difference, weights, "dkl")
    centre = (weights * difference).sum(-1, keepdim=True)
    return (weights * (difference - centre).square()).sum(-1) / 2


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    r"""Squared differences of logits plus soft-label cross entropy, times :math:`T^2`.

    .. math:: T^2 \Big[ \frac{\alpha}{4} \sum_{j,k} S(p_j p_k)
        \big( m_j - m_k - S(n_j - n_k) \big)^2 - \beta \sum_j S(p_j) \log q_j \Big]

    with m and n the teacher's and the student's logits over T, p and q their softmaxes, and S
    without gradient. At alpha = beta = 1 its gradient, to both networks, is that of T² KL(p || q):
    the first term has the teacher's part of it, the second the student's.

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape.
        alpha: Weight of the squared error: it reaches a teacher that learns, and nobody else.
        beta: Weight of the cross entropy.
        temperature: T > 0.

    Returns:
        Value of each unit, ``(N, ...)``; beta T² times the teacher's entropy where both agree.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> z = torch.zeros(1, 2)
        >>> decoupled_kl(z, z).item()
        0.693...
    """
    student, teacher = paired_logits(student, teacher, "dkl")
    m, n = teacher / temperature, student / temperature
    p = m.softmax(-1).detach()
    soft = -(p * F.log_softmax(n, dim=-1)).sum(-1)
    return (alpha * difference_spread(m - n.detach(), p) + beta * soft) * temperature**2


def improved_kl(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    alpha: float = 12.0,
    beta: float = 0.25,
    temperature: float = 4.0,
) -> Tensor:
    r"""The decoupled divergence whose squared error reaches the student, weighed by class means.

    .. math:: \frac{\alpha}{4} \sum_{j,k} w_j w_k \big( (m_j - m_k) - (n_j - n_k) \big)^2
        - \beta \, T^2 \sum_j \sigma(m / T)_j \log \sigma(n / T)_j

    with m and n the teacher's and the student's logits. No gradient is stopped. The squared error
    needs no temperature: T² takes that of its logits out again.

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape.
        weights: w, of the same shape, positive with a sum of 1 over the classes.
        alpha: Weight of the squared error.
        beta: Weight of the cross entropy.
        temperature: T > 0, of the cross entropy.

    Returns:
        Value of each unit, ``(N, ...)``; beta T² times the teacher's entropy where both agree.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> z = torch.tensor([[0.0, 2.0]])
        >>> improved_kl(z, -z, torch.full((1, 2), 0.5), alpha=1.0, beta=0.0)
        tensor([2.])
    """
    student, teacher = paired_logits(student, teacher, "ikl")
    p = (teacher / temperature).softmax(-1)
    soft = -(p * F.log_softmax(student / temperature, dim=-1)).sum(-1) * temperature**2
    return alpha * difference_spread(teacher - student, weights) + beta * soft


@register("objective", "dkl")
class DecoupledKL(AbstractUnitLoss):
    r"""DKL: KL divergence as squared differences of logits plus soft labels, of equal gradient.

    .. math:: T^2 \big[ \alpha \, wMSE + \beta \, CE \big] \quad (decoupled\_kl)

    Neighbours: at alpha = beta = 1 `SoftTarget` has the same gradient, and 0 at agreement. With a
    teacher that does not learn, beta alone matters: `ImprovedKL` is the one to use there.
    `Decoupled` (DKD) parts classes, not terms.

    Suggested weight: 1 with alpha = beta = 1, as `SoftTarget` (0.9 at T = 4, RepDistiller).

    Scale: sums over classes, mean over units, T squared inside; the paper has none. The value
    holds the teacher's entropy, as the paper's does, so agreement is not 0.

    Args:
        alpha: Weight of the squared error: for teachers that learn (peers, adversarial views).
        beta: Weight of the soft labels.
        temperature: T > 0.
    """

    name = "dkl"

    def __init__(self, alpha: float = 1.0, beta: float = 1.0, temperature: float = 1.0):
        super().__init__()
        self.alpha = number(alpha, "alpha", self.name, least=0)
        self.beta = number(beta, "beta", self.name, least=0)
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        answers = dense(teacher, self.name)
        return decoupled_kl(student.logits, answers, self.alpha, self.beta, self.temperature)


@register("objective", "ikl")
class ImprovedKL(AbstractUnitLoss):
    r"""IKL: logit differences as the teacher's, weighed by what it says of the class on average.

    .. math:: \alpha \, wMSE(\bar p_y) + \beta \, T^2 \, CE \quad (improved\_kl)

    The weights of a unit are the mean of the teacher's softmaxes over all units of its class that
    were learned from so far, a running mean in the objective's state.

    Neighbours: `DecoupledKL` stops the gradient of the squared error to the student, which this
    does not; `LogitMSE` is the squared error with equal weights.

    Suggested weight: 1 beside 1 of cross entropy with alpha = 12, beta = 0.25, T = 4 (the authors'
    CIFAR-100 settings, with 20 epochs of linear warm-up, which is left to the schedule).

    Scale: sums over classes, mean over units. The authors' cross entropy lacks T squared: their 4
    is our 4 / T² = 0.25. Agreement is beta T² times the teacher's entropy, not 0.

    Deviations: the authors average over the epoch before, from uniform weights in the first; here
    the mean runs over everything seen, and begins with one observation, halfway between uniform
    and the label. Unlabelled units are weighed by the teacher's own softmax for them. Several
    processes keep a mean each.

    Traps: the memory has C² numbers, so it is for classes, not for vocabularies.

    Args:
        alpha: Weight of the squared error.
        beta: Weight of the soft labels.
        temperature: T > 0, of the soft labels.
        weight_temperature: Temperature > 0 of the softmaxes that are averaged; 1 in the paper.
    """

    name = "ikl"
    needs_targets = True
    sums: Tensor
    counts: Tensor

    def __init__(
        self,
        alpha: float = 12.0,
        beta: float = 0.25,
        temperature: float = 4.0,
        weight_temperature: float = 1.0,
    ):
        super().__init__()
        self.alpha = number(alpha, "alpha", self.name, least=0)
        self.beta = number(beta, "beta", self.name, least=0)
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.weight_temperature = number(
            weight_temperature, "weight_temperature", self.name, above=0
        )
        self.seen: tuple[Tensor, Tensor] | None = None

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Begin the memory with one observation a class, or keep one that fits."""
        like = raised(dense(teacher, self.name))
        classes = like.shape[-1]
        if "sums" in self._buffers and len(self.sums) == classes:
            return
        label = torch.eye(classes, dtype=like.dtype, device=like.device)
        self.register_buffer("sums", (label + 1 / classes) / 2)
        self.register_buffer("counts", label.new_ones(classes))

    def advance(self) -> None:
        """Write what was seen since the last update into the memory."""
        if self.seen is not None:
            sums, counts = self.seen
            self.sums += sums.to(self.sums)
            self.counts += counts.to(self.counts)
            self.seen = None

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        if "sums" not in self._buffers:
            raise unbound("ikl")
        answers = dense(teacher, self.name)
        if answers.shape[-1] != len(self.sums):
            raise ShapeMismatch(
                f"ikl remembers {len(self.sums)} classes, and got logits {tuple(answers.shape)}: "
                "bind it to the models that it is used with."
            )
        targets = class_numbers(batch.targets, student.logits, self.name)
        own = (answers / self.weight_temperature).softmax(-1)
        mean = (self.sums / self.counts[:, None]).to(own)
        weights = torch.where((targets >= 0).unsqueeze(-1), mean[targets.clamp(min=0)], own)
        if self.training:
            self._remember(own.detach(), targets, batch.mask)
        return improved_kl(
            student.logits, answers, weights, self.alpha, self.beta, self.temperature
        )

    def _remember(self, answers: Tensor, targets: Tensor, mask: Tensor | None) -> None:
        """Keep the sums of labelled answers that count until the update is done."""
        counts = targets >= 0
        if mask is not None and mask.shape == counts.shape:
            counts = counts & mask
        sums, numbers = self.seen or (torch.zeros_like(self.sums), torch.zeros_like(self.counts))
        share = counts.flatten().to(answers.dtype)
        rows = torch.where(counts.unsqueeze(-1), answers, 0.0).flatten(0, -2).to(sums)
        index = targets.clamp(min=0).flatten()
        self.seen = (
            sums.index_add(0, index, rows),
            numbers.index_add(0, index, share.to(numbers)),
        )
