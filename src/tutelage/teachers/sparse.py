r"""A teacher's answer to the k likeliest classes, the mass of the rest, and draws from the rest.

Anshumann, Zaidi, Kedia, Ahn, Kwon, Lee, Lee, Lee: Sparse Logit Sampling: Accelerating Knowledge
Distillation in LLMs, 2025, arXiv:2503.16870.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.errors import ModelError, RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import SparseOutputs

_AT_ONCE = 1 << 20  # logits looked at together
_FAR = -200.0  # nats below the largest of the tail: 0 beside it
_STRETCH = 64  # classes whose largest stands for them at first


def sparse_answers(
    logits: Tensor,
    k: int,
    *,
    mask: Tensor | None = None,
    draws: int = 0,
    points: Tensor | None = None,
) -> SparseOutputs:
    r"""The k likeliest classes with their log-probabilities, and the log of the tail's mass.

    .. math:: \log p_c \;(c \in K), \quad R = \sum_{c \notin K} p_c

    With ``draws`` m, classes are drawn from the tail besides, systematically: of the tail's
    cumulative distribution F (from 0 to 1, classes in order) those in which the points
    :math:`(j + u) / m, \; j = 0 \dots m - 1` fall. So class c is drawn :math:`n_c` times, which is
    :math:`m p_c / R` rounded up or down, and on average over u exactly that. Each draw stands for
    the weight :math:`R / m`, hence

    .. math:: \hat p_c = p_c \;(c \in K), \quad \hat p_c = \frac{R}{m} n_c \;(c \notin K), \qquad
        E[\hat p] = p, \quad \sum_c \hat p_c = 1

    The paper draws from all classes, independently; here the head is exact, and systematic draws
    vary less than independent ones.

    Args:
        logits: ``(N, ..., C)``.
        k: Classes kept, 1 to C.
        mask: Which units are wanted, ``(N, ...)``; the others are not looked at, and get an even
            distribution over k + 1 buckets.
        draws: m.
        points: u of each unit, in [0, 1), ``(N, ...)``; needed for draws.

    Returns:
        In fp32 (fp64 for fp64), without a graph; the likeliest class first.

    Raises:
        RecipeError: More classes are to be kept than there are.
        ModelError: Logits of a unit that is wanted are NaN or infinite.
        ShapeMismatch: There is not one point for each unit.

    Example:
        >>> found = sparse_answers(torch.tensor([[0.6, 0.3, 0.1]]).log(), 1)
        >>> found.top.item(), round(found.log_tail.exp().item(), 3)
        (0, 0.4)
    """
    logits = logits.detach()
    units, classes = logits.shape[:-1], logits.shape[-1]
    if not 1 <= k <= classes:
        raise RecipeError(f"k is {k}, and there are {classes} classes: keep fewer.")
    if draws and (points is None or points.shape != units):
        raise ShapeMismatch(
            f"{draws} draws need one point for each of {tuple(units)} units, got "
            f"{None if points is None else tuple(points.shape)}."
        )
    flat = logits.flatten(0, -2)
    rows = None if mask is None else mask.flatten().nonzero().flatten()
    dtype = torch.promote_types(logits.dtype, torch.float32)
    found = _even(flat.shape[0], k, draws, flat.device, dtype)
    count = len(flat) if rows is None else len(rows)
    at_once = max(_AT_ONCE // classes, 1)
    for start in range(0, count, at_once):
        some: slice | Tensor = slice(start, min(start + at_once, count))
        some = some if rows is None else rows[some]
        point = None if points is None else points.flatten()[some]
        own = flat[some].to(dtype, copy=True)
        for whole, part in zip(found, _looked_at(own, k, draws, point), strict=True):
            whole[some] = part
    log_p, top, log_tail, drawn, tail_mean = (
        part.reshape(*units, *part.shape[1:]) for part in found
    )
    if not draws:
        return SparseOutputs(log_p, top=top, log_tail=log_tail)
    return SparseOutputs(log_p, top=top, log_tail=log_tail, drawn=drawn, tail_mean=tail_mean)


def fewer(answers: SparseOutputs, k: int) -> SparseOutputs:
    """Only the k likeliest of the classes kept; the others go to the tail.

    Raises:
        SparseAnswer: There are fewer.

    Example:
        >>> p = torch.tensor([[0.5, 0.3]]).log()
        >>> both = SparseOutputs(p, top=torch.tensor([[4, 7]]), log_tail=torch.tensor([0.2]).log())
        >>> fewer(both, 1).log_tail.exp()
        tensor([0.5000])
    """
    there = answers.top.shape[-1]
    if there < k:
        raise SparseAnswer(
            f"the teacher's answers keep {there} classes, and {k} are asked for: set k: {there}, "
            "or ask the teacher for more."
        )
    if there == k:
        return answers
    order = answers.logits.argsort(dim=-1, descending=True)
    log_p = answers.logits.gather(-1, order)
    log_tail = torch.logaddexp(answers.log_tail, log_p[..., k:].logsumexp(-1))
    top = answers.top.gather(-1, order[..., :k])
    return SparseOutputs(log_p[..., :k], answers.features, top=top, log_tail=log_tail)


Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Log-probabilities, class numbers, log of the tail, draws, mean log-probability of a draw."""


def _even(rows: int, k: int, draws: int, device: torch.device, dtype: torch.dtype) -> Parts:
    """What stands where nobody asked: finite, and a distribution."""
    even = -torch.tensor(k + 1.0, dtype=torch.float64).log().item()
    return (
        torch.full((rows, k), even, device=device, dtype=dtype),
        torch.arange(k, device=device).repeat(rows, 1),
        torch.full((rows,), even, device=device, dtype=dtype),
        torch.zeros((rows, draws), device=device, dtype=torch.int64),
        torch.zeros((rows,), device=device, dtype=dtype),
    )


def _looked_at(logits: Tensor, k: int, draws: int, points: Tensor | None) -> Parts:
    """The parts of some rows ``(M, C)``; writes over them."""
    values, top = _likeliest(logits, k)
    others = logits.scatter_(-1, top, -torch.inf)
    most = others.amax(-1, keepdim=True)
    most.masked_fill_(torch.isneginf(most), 0.0)
    others.sub_(most)
    apart = others.clamp(min=_FAR) if draws else None
    mass = others.exp_().sum(-1, keepdim=True)
    tail = most + mass.log()
    total = torch.logaddexp(values.logsumexp(-1, keepdim=True), tail)
    if not bool(torch.isfinite(total).all()):
        raise ModelError(
            "the teacher answered with NaN or infinite logits, which teach nothing: look at "
            "its weights and its intake; nothing of this batch was kept."
        )
    log_tail = (tail - total)[:, 0]
    drawn, mean = top[:, :0], torch.zeros_like(log_tail)
    if apart is not None:
        assert points is not None
        drawn = _drawn(others, mass, top[:, :1], draws, points)
        inside = torch.linalg.vecdot(others, apart) / mass[:, 0]  # 0 log 0 is 0
        mean = (inside + (most - total)[:, 0]).masked_fill(mass[:, 0] == 0, 0.0)
    return values - total, top, log_tail, drawn, mean


def _likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The largest k of each row ``(M, C)`` and their classes, the largest first.

    Each is among the k stretches of classes whose largest are largest, so only those are sorted.
    """
    blocks = logits.shape[-1] // _STRETCH
    if blocks < 4 * k:
        found = logits.topk(k, dim=-1)
        return found.values, found.indices
    even = logits[:, : blocks * _STRETCH].unflatten(-1, (blocks, _STRETCH))  # type: ignore[no-untyped-call]
    where = even.amax(-1).topk(k, dim=-1).indices
    rest = torch.arange(blocks * _STRETCH, logits.shape[-1], device=logits.device)
    inside = where.unsqueeze(-1) * _STRETCH + torch.arange(_STRETCH, device=logits.device)
    classes = torch.cat([inside.flatten(1), rest.expand(len(logits), -1)], 1)
    found = logits.gather(-1, classes).topk(k, dim=-1)
    return found.values, classes.gather(-1, found.indices)


def _drawn(mass: Tensor, whole: Tensor, first: Tensor, draws: int, points: Tensor) -> Tensor:
    """Draws ``(M, m)`` in proportion to ``mass`` ``(M, C)``, whose sum is ``whole``.

    First a stretch of classes is found, then the class inside it.
    """
    count = -(-mass.shape[1] // _STRETCH)
    even = F.pad(mass, (0, count * _STRETCH - mass.shape[1])).view(len(mass), count, _STRETCH)
    sums = even.sum(-1).double()
    ends = sums.cumsum(-1)
    steps = torch.arange(draws, device=mass.device) + points.double()[:, None]
    places = steps / draws * ends[:, -1:]
    where = torch.searchsorted(ends, places, right=True).clamp(max=count - 1)
    places = places - (ends.gather(1, where) - sums.gather(1, where))
    some = even.gather(1, where.unsqueeze(-1).expand(-1, -1, _STRETCH)).double().cumsum(-1)
    # What rounding leaves beyond a stretch's end goes to the last class there that has any.
    places = torch.minimum(places.unsqueeze(-1), some[..., -1:] * (1 - 1e-12))
    inside = torch.searchsorted(some, places, right=True)[..., 0].clamp(max=_STRETCH - 1)
    # Of a tail without mass a draw weighs nothing: any class will do.
    return torch.where(whole == 0, first, where * _STRETCH + inside)
