r"""The divergence of two hidden states through two heads, without ever holding all logits.

Gradients are formed in the forward pass, tile by tile, as a fused linear loss allows: Hsu, Dai,
Kothapalli, Song, Tang, Zhu, Shimizu, Sahni, Ning, Chen: Liger Kernel: Efficient Triton Kernels for
LLM Training, 2024, arXiv:2410.10989. So the student's head is multiplied three times (for logits,
hidden states and weight) and the teacher's once, the least there is.
"""

import torch
from torch import Tensor

from tutelage.core.errors import ShapeMismatch
from tutelage.objectives.language.one_pass import Heads
from tutelage.objectives.language.plan import carried_out, check_head, plan_of
from tutelage.objectives.units import whole

_ASKER = "linear_divergence"


def linear_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    divergence: str = "forward",
    alpha: float | None = None,
    beta: float | None = None,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    labels: Tensor | None = None,
    cross_entropy: float = 0.0,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    vocabulary: int | None = None,
    count: float | None = None,
    tile_rows: int | None = None,
    into_grad: float | None = None,
) -> Tensor:
    r"""Mean divergence of two linear heads' softmaxes, times :math:`T^2`, and cross entropy.

    .. math:: \frac{1}{n} \sum_i w_i \big[ T^2 D(p_i \| q_i) - \lambda \log q^{T=1}_{i, y_i} \big],
        \quad q_i = \sigma\Big(\frac{W_s h_i + b_s}{T}\Big), \;
        p_i = \sigma\Big(\frac{W_t g_i + b_t}{T}\Big)

    With the slopes :math:`g_c = \partial D / \partial \log q_c` of each divergence, the gradient
    for the student's logits is :math:`T (g_c - q_c \sum_k g_k) \, w_i / n`:

    ============  ============================  =========================================
    divergence    D                             g
    ============  ============================  =========================================
    forward       KL(p, q)                      -p
    reverse       KL(q, p)                      q (log q - log p)
    js            beta KL(p, m) + (1-beta)      (1-beta) q (log q - log m)
                  KL(q, m)
    skew          KL(p, alpha p + (1-alpha) q)  -(1-alpha) p q / m
    skew_reverse  KL(q, alpha q + (1-alpha) p)  q (log q - log m - alpha q / m)
    alpha_beta    see `alpha_beta`              q^beta (q^alpha - p^alpha) / alpha
    ============  ============================  =========================================

    Memory beyond the inputs is two tiles of ``tile_rows`` times the vocabulary, and the gradient of
    the weight; neither grows with N. Tiles, statistics and gradients are in fp32 (fp64 for fp64)
    whatever comes in, rounded once at the end. Only what asks for a gradient gets one: with a
    frozen head nothing of its size is formed. The teacher gets none.

    Args:
        student_hidden: h, ``(N, ..., Hs)``.
        student_weight: ``(Vs, Hs)``.
        teacher_hidden: g, ``(N, ..., Ht)`` for the same units.
        teacher_weight: ``(Vt, Ht)``.
        divergence: ``forward``, ``reverse``, ``js``, ``skew``, ``skew_reverse``, ``alpha_beta``.
        alpha: Option of skew, skew_reverse (0.1) and alpha_beta (0.8).
        beta: Option of js (0.5) and alpha_beta (0.3).
        temperature: T > 0, of the divergence; cross entropy is at 1.
        mask: Which units count, ``(N, ...)`` or its first dimensions; others are not computed.
        weights: w, ``(N, ...)``; units of weight 0 are not computed, but count.
        labels: y, ``(N, ...)`` of int64; negative ones add no cross entropy, and count.
        cross_entropy: lambda, at least 0.
        student_bias: ``(Vs,)``.
        teacher_bias: ``(Vt,)``.
        vocabulary: C, how many leading classes take part; the smaller of Vs and Vt if None.
            Logits beyond are -inf for both models, so both softmaxes are over C classes: mass that
            a model gave to classes beyond (padding, in one family) is left out, and `mass_beyond`
            tells how much that is.
        count: n; the number of units that count if None. 1 gives the sum; the number of units of
            all parts of an update makes the parts' values and gradients add up to the whole.
        tile_rows: Rows of a tile; by the vocabulary if None.
        into_grad: The factor by which the loss will be multiplied before backward. The weight's
            gradient is then added to ``student_weight.grad`` at once, so that accumulation needs
            no second tensor of that size; backward with another factor is refused.

    Returns:
        A scalar, in nats; 0 with zero gradients where nothing counts.

    Raises:
        ShapeMismatch: Shapes do not belong together, or fewer than two classes are left.
        RecipeError: An option is outside its range, or ``into_grad`` cannot be used here.
        DataError: Labels are missing, or one of them is beyond the vocabulary.

    Example:
        >>> h, w = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> g, v = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.5]])
        >>> h.requires_grad_()
        tensor([[1., 0.]], requires_grad=True)
        >>> linear_divergence(h, w, g, v).backward()
        >>> h.grad  # q - p
        tensor([[ 0.4621, -0.4621]])
    """
    heads = Heads(
        student_hidden.flatten(0, -2),
        student_weight,
        student_bias,
        teacher_hidden.flatten(0, -2),
        teacher_weight,
        teacher_bias,
    )
    classes = _classes(heads, student_hidden, teacher_hidden, vocabulary)
    plan = plan_of(
        student_hidden,
        student_weight,
        classes,
        _ASKER,
        divergence=divergence,
        alpha=alpha,
        beta=beta,
        temperature=temperature,
        mask=mask,
        weights=weights,
        labels=labels,
        cross_entropy=cross_entropy,
        count=count,
        tile_rows=tile_rows,
        into_grad=into_grad,
    )
    return carried_out(plan, heads)


@torch.no_grad()
def mass_beyond(
    hidden: Tensor, weight: Tensor, vocabulary: int, bias: Tensor | None = None
) -> Tensor:
    r"""The probability that a head gives to classes beyond the first C, at T = 1.

    .. math:: \sum_{c \ge C} \sigma(W h + b)_c

    Args:
        hidden: ``(N, H)``.
        weight: ``(V, H)``.
        vocabulary: C, from 1 to V.
        bias: ``(V,)``.

    Returns:
        ``(N,)``, from 0 to 1; 0 where C is V.

    Example:
        >>> mass_beyond(torch.zeros(1, 2), torch.ones(4, 2), 3)
        tensor([0.2500])
    """
    weight, hidden = weight.detach(), hidden.detach()
    total = hidden.new_full((2, len(hidden)), -torch.inf, dtype=torch.float32)
    height = 4096
    for which, (start, stop) in enumerate(((0, vocabulary), (vocabulary, len(weight)))):
        for first in range(start, stop, height):
            block = slice(first, min(first + height, stop))
            logits = hidden.float() @ weight[block].float().t()
            if bias is not None:
                logits += bias[block].float()
            total[which] = torch.logaddexp(total[which], logits.logsumexp(1))
    return (total[1] - torch.logaddexp(total[0], total[1])).exp()


def _classes(heads: Heads, ours: Tensor, theirs: Tensor, vocabulary: int | None) -> int:
    """How many classes take part, after a check of all shapes."""
    for whose, hidden, weight, bias in (("student", *heads[:3]), ("teacher", *heads[3:])):
        assert hidden is not None
        assert weight is not None
        check_head(whose, hidden, weight, bias)
    if ours.shape[:-1] != theirs.shape[:-1]:
        raise ShapeMismatch(
            f"{_ASKER} compares the same units, and got hidden states {tuple(ours.shape)} of the "
            f"student and {tuple(theirs.shape)} of the teacher."
        )
    assert heads.teacher_weight is not None
    shared = min(len(heads.student_weight), len(heads.teacher_weight))
    if vocabulary is None:
        vocabulary = shared
    if whole(vocabulary, "vocabulary", _ASKER) > shared or vocabulary < 2:
        raise ShapeMismatch(
            f"{_ASKER} was asked for {vocabulary} classes of heads with "
            f"{len(heads.student_weight)} and {len(heads.teacher_weight)}: 2 to {shared} can be "
            "compared."
        )
    return vocabulary
