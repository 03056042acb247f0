r"""The divergence of a linear head's softmax from sparse teacher answers, in one pass.

As `tutelage.objectives.linear_divergence`, with a teacher of whom only the k likeliest classes and
the mass of the others are there: no teacher's head is multiplied, the least there is.
"""

from dataclasses import replace

import torch
from torch import Tensor

from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import SparseOutputs
from tutelage.objectives.language.one_pass import Heads
from tutelage.objectives.language.plan import carried_out, check_head, plan_of
from tutelage.objectives.language.sparse_rows import kept_of
from tutelage.objectives.response.buckets import check_kept
from tutelage.objectives.units import whole

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
    classes = _classes(student_hidden, student_weight, student_bias, vocabulary)
    check_kept(answers, torch.Size((*student_hidden.shape[:-1], classes)), _ASKER)
    plan = plan_of(
        student_hidden,
        student_weight,
        classes,
        _ASKER,
        divergence=divergence,
        alpha=alpha,
        beta=beta,
        temperature=1.0,
        mask=mask,
        weights=weights,
        labels=labels,
        cross_entropy=cross_entropy,
        count=count,
        tile_rows=tile_rows,
        into_grad=into_grad,
    )
    kept = kept_of(answers, plan.rows, classes, plan.dtype, draws=divergence == "forward")
    heads = Heads(student_hidden.flatten(0, -2), student_weight, student_bias)
    return carried_out(replace(plan, kept=kept), heads)


def _classes(hidden: Tensor, weight: Tensor, bias: Tensor | None, vocabulary: int | None) -> int:
    """How many classes take part, after a check of shapes."""
    check_head("student", hidden, weight, bias)
    classes = len(weight) if vocabulary is None else whole(vocabulary, "vocabulary", _ASKER)
    if not 2 <= classes <= len(weight):
        raise ShapeMismatch(
            f"{_ASKER} was asked for {classes} classes of a head with {len(weight)}: 2 to "
            f"{len(weight)} can be compared."
        )
    return classes
