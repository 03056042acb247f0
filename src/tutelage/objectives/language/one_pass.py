"""The one pass over tiles of logits in which a linear head's loss and gradients are formed."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tutelage.core.errors import RecipeError
from tutelage.core.reduce import full_precision
from tutelage.objectives.language.divergences import Parts
from tutelage.objectives.language.sparse_rows import Kept
from tutelage.objectives.language.tiles import Head, column_blocks


@dataclass(frozen=True)
class Plan:
    """What is computed, for which rows.

    Attributes:
        parts: Values and slopes of the divergence.
        temperature: T > 0.
        classes: C, how many rows of both heads take part.
        rows: The units that count, ``(M,)``.
        shares: Their weights divided by the denominator, ``(M,)``.
        labels: Their class numbers ``(M,)``, negative for unlabelled; None without labels.
        cross_entropy: Weight of the labels' term.
        height: Rows of a tile.
        dtype: In which all is computed.
        into_grad: Factor at which the weight's gradient goes straight to ``weight.grad``, or None.
        kept: The teacher's sparse answers, where it has no head.
    """

    parts: Parts
    temperature: float
    classes: int
    rows: Tensor
    shares: Tensor
    labels: Tensor | None
    cross_entropy: float
    height: int
    dtype: torch.dtype
    into_grad: float | None
    kept: Kept | None = None


class Heads(NamedTuple):
    """The tensors: ``(N, Hs)``, ``(Vs, Hs)``, ``(Vs,)`` or None, and the teacher's likewise.

    None for the teacher where its answers are sparse.
    """

    student_hidden: Tensor
    student_weight: Tensor
    student_bias: Tensor | None
    teacher_hidden: Tensor | None = None
    teacher_weight: Tensor | None = None
    teacher_bias: Tensor | None = None

    def cut(self, plan: Plan) -> tuple[Head, Head | None]:
        """Student and teacher over the classes that they share."""
        tensors = [None if t is None else t.detach() for t in self]
        made: list[Head | None] = []
        for hidden, weight, bias in (tensors[:3], tensors[3:]):
            if hidden is None or weight is None:
                made.append(None)
                continue
            shared = None if bias is None else bias[: plan.classes]
            made.append(Head(hidden, weight[: plan.classes], shared, plan.dtype))
        assert made[0] is not None
        return made[0], made[1]


Gradients = list[Tensor | None]
"""Of the student's hidden states, weight and bias, in the precision of the computation."""


def sweep(plan: Plan, heads: Heads, wanted: tuple[bool, bool, bool]) -> tuple[Tensor, Gradients]:
    """The loss, and the gradients that are ``wanted``, tile by tile."""
    student, teacher = heads.cut(plan)
    found: Gradients = [
        torch.zeros_like(t, dtype=plan.dtype, memory_format=torch.contiguous_format)
        if t is not None and want
        else None
        for t, want in zip(heads[:3], wanted, strict=True)
    ]
    target, factor = found[1], 1.0
    if plan.into_grad is not None and wanted[1]:
        target, factor, found[1] = _own_gradient(heads.student_weight), plan.into_grad, None
    loss = student.hidden.new_zeros((), dtype=plan.dtype)
    height = min(plan.height, len(plan.rows))
    count = 1 if teacher is None else 2
    tiles = student.hidden.new_empty((count, height, plan.classes), dtype=plan.dtype)
    for start in range(0, len(plan.rows), plan.height):
        those = slice(start, start + plan.height)
        rows = plan.rows[those]
        log_q = tiles[0, : len(rows)]
        hidden = student.read(rows)
        student.log_probabilities(hidden, plan.temperature, log_q)
        if teacher is None:
            loss += _compare_kept_(plan, those, log_q, slopes=any(wanted))
        else:
            log_p = tiles[1, : len(rows)]
            teacher.log_probabilities(teacher.read(rows), plan.temperature, log_p)
            loss += compare_(plan, those, log_q, log_p, slopes=any(wanted))
        if found[0] is not None:
            found[0].index_copy_(0, rows, student.back(log_q))
        if target is not None:
            target[: plan.classes].addmm_(log_q.t(), hidden, alpha=factor)
        if found[2] is not None:
            found[2][: plan.classes] += log_q.sum(0)
    return loss, found


def compare_(plan: Plan, those: slice, log_q: Tensor, log_p: Tensor, *, slopes: bool) -> Tensor:
    """The share of one tile in the loss.

    Overwrites ``log_p`` with the divergence's slopes, and, where ``slopes`` are wanted, ``log_q``
    with the loss's gradient for the student's logits.
    """
    share, heat = plan.shares[those, None], plan.temperature
    value, total = torch.zeros_like(share), torch.zeros_like(share)
    for block in column_blocks(plan.classes):
        values, slope = plan.parts(log_q[:, block], log_p[:, block])
        value += values.sum(1, keepdim=True)
        total += slope.sum(1, keepdim=True)
        log_p[:, block] = slope
    loss = (value * share).sum() * heat**2
    label, hard, log_rest = _labelled(plan, those, log_q)
    if label is not None:
        chosen = heat * log_q.gather(1, label) - log_rest
        loss = loss - (chosen * hard).sum()
    if slopes:
        _slopes_(plan, log_q, log_p, total, share * heat, hard, log_rest)
        if label is not None:
            log_q.scatter_add_(1, label, -hard)
    return loss


def _compare_kept_(plan: Plan, those: slice, log_q: Tensor, *, slopes: bool) -> Tensor:
    """The share of one tile in the loss, at T = 1, against sparse answers.

    Overwrites ``log_q``, with the loss's gradient for the student's logits where ``slopes``.
    """
    assert plan.kept is not None
    share = plan.shares[those, None]
    label, hard, _ = _labelled(plan, those, log_q)
    loss = log_q.new_zeros(())
    if label is not None:
        loss = loss - (log_q.gather(1, label) * hard).sum()
    loss = loss + plan.kept.rows(those).compare_(log_q, plan.parts, share, hard, slopes=slopes)
    if slopes and label is not None:
        log_q.scatter_add_(1, label, -hard)
    return loss


def _labelled(plan: Plan, those: slice, log_q: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """Labels, weights of the labels' term, and the log-sum of the classes at temperature 1."""
    share, none = plan.shares[those, None], log_q.new_zeros((len(log_q), 1))
    if plan.labels is None:
        return None, none, none
    label = plan.labels[those, None]
    hard = share * (label >= 0) * plan.cross_entropy
    if plan.temperature == 1:
        return label.clamp(min=0), hard, none
    top = log_q.amax(1, keepdim=True)
    for block in column_blocks(plan.classes):
        scaled = (log_q[:, block] - top).mul_(plan.temperature)
        none += scaled.exp_().sum(1, keepdim=True)
    return label.clamp(min=0), hard, none.log_().add_(top, alpha=plan.temperature)


def _slopes_(
    plan: Plan,
    log_q: Tensor,
    slopes: Tensor,
    total: Tensor,
    soft: Tensor,
    hard: Tensor,
    log_rest: Tensor,
) -> None:
    """Gradient for the logits, less the labels' own classes, written over ``log_q``."""
    one = plan.temperature == 1
    pull = hard - total * soft if one else -total * soft
    for block in column_blocks(plan.classes):
        there = log_q[:, block]
        gradient = slopes[:, block].mul_(soft)
        if plan.labels is not None and not one:
            gradient += (there * plan.temperature).sub_(log_rest).exp_().mul_(hard)
        there.exp_().mul_(pull).add_(gradient)


def _own_gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


class OnePass(torch.autograd.Function):
    """The loss, with gradients that `sweep` formed with it; they wait for the outer factor."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, wanted: tuple[bool, bool, bool], *heads: Tensor) -> Tensor:
        """A scalar."""
        ctx.plan, ctx.wanted = plan, wanted
        ctx.save_for_backward(*heads)
        loss, ctx.held = sweep(plan, Heads(*heads), wanted)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, times ``outer``, in the precision of what they belong to."""
        heads = Heads(*ctx.saved_tensors)
        _check_factor(ctx.plan, ctx.wanted, outer)
        # They are handed out and not kept, so that a large one exists once; asked again through a
        # retained graph, they are made again.
        held, ctx.held = ctx.held, None
        if held is None:
            held = _again(ctx.plan, heads, ctx.wanted)
        given: list[Tensor | None] = []
        while held:
            gradient = held.pop(0)
            like = heads[len(given)]
            same = gradient is None or like is None
            given.append(None if same else scaled_to(gradient, outer, like))  # type: ignore[arg-type]
        return (None, None, *given, None, None, None)


def scaled_to(gradient: Tensor, outer: Tensor, like: Tensor) -> Tensor:
    """``gradient * outer``, multiplied before it is rounded to ``like``'s precision."""
    if like.dtype == gradient.dtype:
        return gradient.mul_(outer)
    rounded = torch.empty_like(like, memory_format=torch.contiguous_format)
    for block in column_blocks(len(like)):
        rounded[block] = gradient[block] * outer
    return rounded


def _again(plan: Plan, heads: Heads, wanted: tuple[bool, bool, bool]) -> Gradients:
    weight = wanted[1] and plan.into_grad is None
    with full_precision(heads.student_hidden):
        return sweep(plan, heads, (wanted[0], weight, wanted[2]))[1]


def _check_factor(plan: Plan, wanted: tuple[bool, bool, bool], outer: Tensor) -> None:
    if plan.into_grad is None or not wanted[1]:
        return
    if not torch.isclose(outer, torch.full_like(outer, plan.into_grad), rtol=1e-4):
        raise RecipeError(
            f"linear_divergence: the weight's gradient was added with into_grad="
            f"{plan.into_grad:g}, and backward came with {outer.item():g}: give that one."
        )
