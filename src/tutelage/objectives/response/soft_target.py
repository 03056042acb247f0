"""Soft targets: match the teacher's tempered class probabilities.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
"""

import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.response.buckets import at_one, bucketed, check_kept, floored
from tutelage.objectives.response.log_space import relative_entropy
from tutelage.objectives.units import enough_classes, number, paired_logits, raised


def soft_target(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Forward KL divergence of tempered softmaxes, times :math:`T^2`.

    .. math:: T^2 \sum_c p_c \log \frac{p_c}{q_c}, \quad
        p = \sigma(z_{teacher} / T), \; q = \sigma(z_{student} / T)

    The factor keeps the gradient's size as T changes (section 2.1 of the paper).

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape.
        temperature: T > 0; larger is softer.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats; 0 where the two agree.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> soft_target(z, z).item()
        0.0
    """
    student, teacher = paired_logits(student, teacher, "kd")
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1) * temperature**2


def sparse_soft_target(student: Tensor, log_top: Tensor, top: Tensor, log_tail: Tensor) -> Tensor:
    r"""Forward KL divergence over k+1 buckets: the teacher's k likeliest classes, and the rest.

    .. math:: \sum_{c \in top} p_c \log \frac{p_c}{q_c} + p_{tail} \log \frac{p_{tail}}{q_{tail}}

    Never renormalised, so its minimum is where the student gives the k classes the teacher's own
    probabilities. Joining classes can only lower a divergence: it is at most `soft_target` at
    T = 1, equal where k = C - 1 or more. The KL of renormalised top-k probabilities is another: it
    leaves the student's tail free.

    Args:
        student: Logits of all classes, ``(N, ..., C)``.
        log_top: The teacher's log-probabilities of the kept classes, ``(N, ..., k)``, at T = 1.
        top: Their class numbers, ``(N, ..., k)`` of int64.
        log_tail: Log of the teacher's probability of all others, ``(N, ...)``; -inf for none.

    Returns:
        Divergence of each unit, ``(N, ...)``, in nats.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.7, 0.2, 0.1]]).log()
        >>> ids = torch.tensor([[0]])
        >>> sparse_soft_target(p, p[:, :1], ids, torch.tensor([0.3]).log()).abs().item() < 1e-6
        True
    """
    answers = SparseOutputs(log_top, top=top, log_tail=log_tail)
    log_q, log_p = bucketed(student, answers, 1.0, "kd")
    return relative_entropy(log_p, log_q)


def sampled_soft_target(student: Tensor, answers: SparseOutputs) -> Tensor:
    r"""Forward KL divergence, of which the tail is estimated from draws, without bias.

    .. math:: \sum_{c \in K} p_c \log \frac{p_c}{q_c} + R \Big[ \frac{1}{R} \sum_{c \notin K} p_c
        \log p_c - \frac{1}{m} \sum_{j=1}^m \log q_{d_j} \Big], \quad R = \sum_{c \notin K} p_c

    Each draw d is class c with probability p_c / R, so on average over draws this is the
    divergence over all classes, and its gradient for the student's logits,
    :math:`q - \hat p` with :math:`\hat p_c = p_c` in K and R / m for each draw of c outside, is
    q - p. (An average over independent draws, or systematic ones as `tutelage.teachers` has.) One
    unit's value may be negative, and is not 0 at agreement: only its average is.

    Anshumann, Zaidi, Kedia, Ahn, Kwon, Lee, Lee, Lee: Sparse Logit Sampling: Accelerating
    Knowledge Distillation in LLMs, 2025, arXiv:2503.16870; there the head is drawn too.

    Args:
        student: Logits of all classes, ``(N, ..., C)``.
        answers: Of the teacher, with draws.

    Returns:
        One estimate a unit, ``(N, ...)``, in nats.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.7, 0.2, 0.1]]).log()  # of the tail, class 1 was drawn
        >>> answers = SparseOutputs(
        ...     p[:, :1],
        ...     top=torch.tensor([[0]]),
        ...     log_tail=torch.tensor([0.3]).log(),
        ...     drawn=torch.tensor([[1]]),
        ...     tail_mean=(p[:, 1:].exp() * p[:, 1:]).sum(1) / 0.3,
        ... )
        >>> z = torch.zeros(1, 3, requires_grad=True)
        >>> sampled_soft_target(z, answers).backward()
        >>> z.grad  # q - (0.7, 0.3, 0)
        tensor([[-0.3667,  0.0333,  0.3333]])
    """
    enough_classes(student, "kd")
    check_kept(answers, student.shape, "kd")
    assert answers.drawn is not None
    assert answers.tail_mean is not None
    student, log_p = raised(student), raised(answers.logits)
    total = student.logsumexp(-1, keepdim=True)
    log_q = student.gather(-1, answers.top) - total
    drawn = (student.gather(-1, answers.drawn) - total).mean(-1)
    tail = raised(answers.log_tail).exp()
    return relative_entropy(floored(log_p), log_q) + tail * (raised(answers.tail_mean) - drawn)


@register("objective", "kd")
class SoftTarget(AbstractUnitLoss):
    r"""KD: match the teacher's tempered class probabilities.

    .. math:: T^2 \, KL(p^T \| q^T), \quad \text{mean over units}

    Neighbours: `StandardizedSoftTarget` first makes logits mean 0 and deviation 1; `Decoupled`
    weighs target and other classes apart; `Dist` asks for correlation only. As in the paper, the
    term with the labels is another objective: ``0.1 * CrossEntropy() + 0.9 * SoftTarget(4)``.

    Suggested weight: 0.9 at T = 4 beside 0.1 of cross entropy (RepDistiller, CIFAR-100); 0.5 and
    0.5 at T = 1 is common on ImageNet.

    Scale: sum over classes, mean over units, T squared inside. Others differ on the same logits: a
    mean over classes too (÷C), or no T squared (÷T²): see `tutelage.objectives.convert`.

    Sparse answers (top k with tail) are used at T = 1 over k + 1 buckets; with draws from the tail
    (`sampled_soft_target`) the divergence over all classes is estimated without bias. At another
    temperature the tail's mass is unknown, and they are refused.

    Args:
        temperature: T > 0; larger is softer.
    """

    name = "kd"
    divergence = True

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = number(temperature, "temperature", self.name, above=0)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        if not isinstance(teacher, SparseOutputs):
            return soft_target(student.logits, teacher.logits, self.temperature)
        at_one(teacher, self.temperature, self.name)
        if teacher.drawn is not None:
            return sampled_soft_target(student.logits, teacher)
        return sparse_soft_target(student.logits, teacher.logits, teacher.top, teacher.log_tail)
