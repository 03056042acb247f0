r"""The divergence of a linear head's softmax from sparse teacher answers, in one pass.

As `tutelage.objectives.linear_divergence`, with a teacher of whom only the k likeliest classes and
the mass of the others are there: no teacher's head is multiplied, the least there is.
"""

import torch
from torch import Tensor

from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import SparseOutputs
from tutelage.core.reduce import full_precision
from tutelage.objectives.language.counted import (
    check_own_gradient,
    kept_units,
    labels_of,
    shares_of,
    wanted_of,
)
from tutelage.objectives.language.divergences import parts_of
from tutelage.objectives.language.one_pass import OnePass, Plan
from tutelage.objectives.language.sparse_rows import kept_of
from tutelage.objectives.language.tiles import tile_height
from tutelage.objectives.response.buckets import check_kept
from tutelage.objectives.units import number, whole

_ASKER = "sparse_linear_divergence"


def sparse_linear_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    answers: SparseOutputs,
    *,
    divergence: str = "forward",
    alpha: float | None = None,
    beta: float | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    labels: Tensor | None = None,
    cross_entropy: float = 0.0,
    student_bias: Tensor | None = None,
    vocabulary: int | None = None,
    count: float | None = None,
    tile_rows: int | None = None,
    into_grad: float | None = None,
) -> Tensor:
    r"""Mean divergence of a linear head from sparse answers over k + 1 buckets, at T = 1.

    .. math:: \frac{1}{n} \sum_i w_i \Big[ \sum_{b \in K \cup \{tail\}} D_b(p_{i, b}, q_{i, b})
        - \lambda \log q_{i, y_i} \Big], \quad q_{i, tail} = \sum_{c \notin K} q_{i, c}

    With the slopes :math:`g_b = \partial D / \partial \log q_b` and G their sum, the gradient for
    the student's logits is :math:`g_c - q_c G` for a kept class, and
    :math:`(g_{tail} - q_{tail} G) \, q_c / q_{tail}` for any other. With ``forward`` and answers
    that have draws the divergence over all classes is estimated instead (`sampled_soft_target`);
    other divergences compare buckets and leave the draws.

    One tile of logits is held at a time, half of what two heads take.

    Args:
        student_hidden: h, ``(N, ..., H)``.
        student_weight: ``(V, H)``.
        answers: Of the teacher to the same units.
        divergence: ``forward``, ``reverse``, ``js``, ``skew``, ``skew_reverse``, ``alpha_beta``.
        alpha: Option of skew, skew_reverse (0.1) and alpha_beta (0.8).
        beta: Option of js (0.5) and alpha_beta (0.3).
        mask: Which units count, ``(N, ...)`` or its first dimensions; others are not computed.
        weights: w, ``(N, ...)``; units of weight 0 are not computed, but count.
        labels: y, ``(N, ...)`` of int64; negative ones add no cross entropy, and count.
        cross_entropy: lambda, at least 0.
        student_bias: ``(V,)``.
        vocabulary: C, how many leading classes the teacher has; all of the student's if None.
            The student's logits beyond are left out of its softmax.
        count: n, as in `linear_divergence`.
        tile_rows: Rows of a tile; by the vocabulary if None.
        into_grad: As in `linear_divergence`.

    Returns:
        A scalar, in nats; 0 with zero gradients where nothing counts.

    Raises:
        ShapeMismatch: Shapes do not belong together.
        RecipeError: An option is outside its range.
        DataError: A kept class or a label is beyond the vocabulary, or labels are missing.

    Example:
        >>> h, w = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.eye(2)
        >>> all_in_tail = torch.tensor([0.0])
        >>> none = SparseOutputs(
        ...     torch.tensor([[-50.0]]), top=torch.tensor([[0]]), log_tail=all_in_tail
        ... )
        >>> sparse_linear_divergence(h, w, none).backward()
        >>> h.grad  # q - p
        tensor([[ 0.7311, -0.7311]])
    """
    units = student_hidden.shape[:-1]
    classes = _classes(student_hidden, student_weight, student_bias, vocabulary)
    check_kept(answers, torch.Size((*units, classes)), _ASKER)
    dtype = torch.promote_types(student_hidden.dtype, student_weight.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    heads = (student_hidden.flatten(0, -2), student_weight, student_bias)
    kept = kept_units(mask, units, student_hidden, _ASKER)
    shares, rows = shares_of(kept, weights, count, dtype, _ASKER)
    if into_grad is not None:
        into_grad = number(into_grad, "into_grad", _ASKER)
        check_own_gradient(student_weight, dtype, _ASKER)
    parts = parts_of(divergence, alpha, beta, _ASKER)
    plan = Plan(
        parts=parts,
        temperature=1.0,
        classes=classes,
        rows=rows,
        shares=shares,
        labels=labels_of(labels, cross_entropy, student_hidden, classes, rows, _ASKER),
        cross_entropy=number(cross_entropy, "cross_entropy", _ASKER, least=0),
        height=tile_height(classes, dtype.itemsize)
        if tile_rows is None
        else whole(tile_rows, "tile_rows", _ASKER),
        dtype=dtype,
        into_grad=into_grad,
        kept=kept_of(answers, rows, classes, dtype, draws=divergence == "forward"),
    )
    with full_precision(student_hidden):
        loss: Tensor = OnePass.apply(  # type: ignore[no-untyped-call]
            plan, wanted_of(heads), *heads, None, None, None
        )
    return loss


def _classes(hidden: Tensor, weight: Tensor, bias: Tensor | None, vocabulary: int | None) -> int:
    """How many classes take part, after a check of shapes."""
    if weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ShapeMismatch(
            f"the student's head {tuple(weight.shape)} does not read its hidden states "
            f"(..., {hidden.shape[-1]}): a head is (classes, width), and reads what stands before "
            "it."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeMismatch(
            f"the student's bias {tuple(bias.shape)} does not belong to its head "
            f"{tuple(weight.shape)}."
        )
    classes = len(weight) if vocabulary is None else whole(vocabulary, "vocabulary", _ASKER)
    if not 2 <= classes <= len(weight):
        raise ShapeMismatch(
            f"{_ASKER} was asked for {classes} classes of a head with {len(weight)}: 2 to "
            f"{len(weight)} can be compared."
        )
    return classes
