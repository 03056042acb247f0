"""What divergences between class distributions share: tempered log-probabilities, and their sums.

Everything stays in log space, so that a probability of exp(-10000) is still a number.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.objectives.response.buckets import bucketed
from tutelage.objectives.units import paired_logits

Answer = Tensor | SparseOutputs
"""What divergences take of the teacher: logits of all classes, or a sparse answer."""


def answer_of(teacher: Outputs) -> Answer:
    """The teacher's answer, as divergences take it."""
    return teacher if isinstance(teacher, SparseOutputs) else teacher.logits


def log_probabilities(
    student: Tensor, teacher: Answer, temperature: float, asker: str
) -> tuple[Tensor, Tensor]:
    """Log-softmaxes at T of the student's and the teacher's logits, each ``(N, ..., C)``.

    Of a sparse answer (at T = 1): both over its k + 1 buckets, ``(N, ..., k + 1)``.
    """
    if isinstance(teacher, SparseOutputs):
        return bucketed(student, teacher, temperature, asker)
    student, teacher = paired_logits(student, teacher, asker)
    return (
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
    )


def relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension: ``(N, ..., C)`` twice -> ``(N, ...)``, in nats."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def log_mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """Log of ``share * p + (1 - share) * q``, of the same shape; ``share`` in [0, 1)."""
    first = math.log(share) if share > 0 else -math.inf
    return torch.logaddexp(log_p + first, log_q + math.log1p(-share))
