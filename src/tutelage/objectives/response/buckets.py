r"""A sparse answer and a student over k + 1 buckets: the k kept classes, and all others as one.

Joining classes never raises an f-divergence (data processing), so a divergence over the buckets is
at most that over all classes; it is the same where k is C - 1 or more, or where inside the tail
both models' probabilities have one ratio.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tutelage.core.errors import DataError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import SparseOutputs
from tutelage.objectives.units import enough_classes, raised

LEAST = -100.0
"""What a log-probability of -inf counts as, where the teacher says that a bucket is empty."""


def bucketed(
    student: Tensor, answers: SparseOutputs, temperature: float, asker: str
) -> tuple[Tensor, Tensor]:
    """Both log-probabilities over the buckets, ``(N, ..., k + 1)`` each, the tail last.

    Where all classes are kept there is no tail, and k buckets. The teacher's are as they were
    kept, never renormalised.

    Args:
        student: Logits of all classes, ``(N, ..., C)``.
        answers: Of the teacher, to the same units.
        temperature: 1: the mass of a tail at another temperature is not known.
        asker: In whose name wrong input is refused.

    Raises:
        SparseAnswer: The temperature is not 1.
        ShapeMismatch: The units differ, or there are fewer than two classes.
        DataError: A kept class is none of the student's (looked at on the CPU only).
    """
    at_one(answers, temperature, asker)
    enough_classes(student, asker)
    check_kept(answers, student.shape, asker)
    log_q = log_buckets(raised(student), answers.top)
    return log_q, log_kept(answers, student.shape[-1])


def log_kept(answers: SparseOutputs, classes: int) -> Tensor:
    """The teacher's log-probabilities of the buckets, with the least for -inf."""
    log_p = raised(answers.logits)
    if answers.top.shape[-1] < classes:
        log_p = torch.cat([log_p, raised(answers.log_tail).unsqueeze(-1)], -1)
    return floored(log_p)


def floored(log_p: Tensor) -> Tensor:
    """Log-probabilities with the least for -inf, so that 0 log 0 is 0."""
    return log_p.masked_fill(torch.isneginf(log_p), LEAST)


def log_buckets(student: Tensor, top: Tensor) -> Tensor:
    r"""The student's log-probabilities of the buckets, stably however small its tail is.

    .. math:: \log q_c = z_c - \mathrm{lse}(z) \;(c \in K), \quad
        \log q_{tail} = \mathrm{lse}_{c \notin K}(z) - \mathrm{lse}(z)

    The tail is a sum of its own classes, not one minus the sum of the others, which has no digits
    left where the tail is small.

    Args:
        student: Logits ``(N, ..., C)``.
        top: Kept classes ``(N, ..., k)`` of int64.

    Returns:
        ``(N, ..., k + 1)``; ``(N, ..., C)`` where k is C.

    Example:
        >>> z = torch.tensor([[0.0, -60.0, -60.0]])
        >>> log_buckets(z, torch.tensor([[0]])).tolist()  # 1 - p would be 0 in fp32
        [[0.0, -59.306...]]
    """
    found: Tensor = _Buckets.apply(student, top)  # type: ignore[no-untyped-call]
    return found


def at_one(answers: SparseOutputs, temperature: float, asker: str) -> None:
    """Refuse temperatures at which the tail of a sparse answer is not known."""
    if temperature != 1:
        raise SparseAnswer(
            f"{asker} at temperature {temperature:g} needs the logits of all classes, and this "
            f"teacher's answers keep only {answers.top.shape[-1]}: set temperature: 1, or keep "
            "dense answers."
        )


def check_kept(answers: SparseOutputs, student: torch.Size, asker: str) -> None:
    """Refuse answers to other units than the student's ``(N, ..., C)``, or of other classes."""
    top = answers.top
    if answers.logits.shape != top.shape or top.shape[:-1] != student[:-1]:
        raise ShapeMismatch(
            f"{asker} got sparse answers {tuple(top.shape)} for student logits {tuple(student)}: "
            "both must answer the same units."
        )
    if top.is_cpu and top.numel() and int(top.max()) >= student[-1]:
        raise DataError(
            f"{asker} got class number {int(top.max())} from the teacher where the student has "
            f"{student[-1]} classes: both must have one vocabulary."
        )


class _Buckets(torch.autograd.Function):
    """`log_buckets` with one tensor of all classes in its backward, and none kept for it."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, top: Tensor) -> Tensor:
        total = student.logsumexp(-1, keepdim=True)
        kept = student.gather(-1, top)
        parts = [kept]
        if top.shape[-1] < student.shape[-1]:
            parts.append(student.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True))
        ctx.save_for_backward(student, top, total, *parts[1:])
        return torch.cat(parts, -1) - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        """From slopes g: of a kept class g_c - q_c G, of others q_c / q_tail g_tail - q_c G."""
        student, top, total, *tail = ctx.saved_tensors
        k = top.shape[-1]
        sum_ = outer.sum(-1, keepdim=True)
        kept = outer[..., :k] - (student.gather(-1, top) - total).exp() * sum_
        if not tail:
            return torch.zeros_like(student).scatter_(-1, top, kept), None
        (rest,) = tail
        # q_c is q_tail times a share of at most 1, so nothing overflows however small q_tail is.
        factor = outer[..., k:] - (rest - total).exp() * sum_
        empty = torch.isneginf(rest)
        gradient = (student - rest.masked_fill(empty, 0.0)).clamp_(max=0.0).exp_()
        gradient.mul_(factor.masked_fill(empty, 0.0))
        return gradient.scatter_(-1, top, kept), None
