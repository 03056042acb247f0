r"""Divergences of two class distributions, class by class, with their slopes by hand.

Each is a sum over classes of values of :math:`\log q_c` and :math:`\log p_c`. With the slopes
:math:`g_c = \partial D / \partial \log q_c` (the log-probabilities taken as free), the gradient
for the student's tempered logits :math:`u`, of which q is the softmax, is

.. math:: \frac{\partial D}{\partial u_c} = g_c - q_c \sum_k g_k

A multiple of q added to g changes nothing in it, so slopes are known up to that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from tutelage.core.errors import RecipeError, suggest
from tutelage.objectives.response.alpha_beta import growth as growth
from tutelage.objectives.response.log_space import log_mixture
from tutelage.objectives.units import number

Parts = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From log q and log p ``(R, C)`` to values and slopes of each class, ``(R, C)`` each."""


def forward_parts(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    r"""Forward KL: values :math:`p (\log p - \log q)`, slopes :math:`-p`."""
    p = log_p.exp()
    return (log_p - log_q).mul_(p), p.neg_()


def reverse_parts(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    r"""Reverse KL: values and slopes :math:`q (\log q - \log p)`."""
    values = (log_q - log_p).mul_(log_q.exp())
    return values, values


def js_parts(log_q: Tensor, log_p: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    r"""Jensen-Shannon, m = beta p + (1 - beta) q: :math:`(1 - \beta) q (\log q - \log m)`."""
    log_m = log_mixture(log_p, log_q, beta)
    slopes = (log_q - log_m).mul_(log_q.exp()).mul_(1 - beta)
    return (log_p - log_m).mul_(log_p.exp()).mul_(beta).add_(slopes), slopes


def skew_parts(log_q: Tensor, log_p: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Skewed KL, m = alpha p + (1 - alpha) q: slopes :math:`-(1 - \alpha) p q / m`."""
    log_m = log_mixture(log_p, log_q, alpha)
    slopes = (log_p + log_q).sub_(log_m).exp_().mul_(alpha - 1)
    return (log_p - log_m).mul_(log_p.exp()), slopes


def skew_reverse_parts(log_q: Tensor, log_p: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Its reverse, m = alpha q + (1 - alpha) p: :math:`q (\log q - \log m - \alpha q / m)`."""
    log_m = log_mixture(log_q, log_p, alpha)
    q, gap = log_q.exp(), log_q - log_m
    values = gap * q
    return values, values - gap.exp_().mul_(q).mul_(alpha)


def alpha_beta_parts(
    log_q: Tensor, log_p: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    r"""Alpha-beta divergence: slopes :math:`q^\beta (q^\alpha - p^\alpha) / \alpha`.

    The values are those of `tutelage.objectives.alpha_beta`, class by class.
    """
    gap = log_q - log_p
    slopes = growth(alpha, gap, alpha * log_p + beta * log_q)
    if alpha == 0 and beta == 0:
        return gap.square().div_(2), slopes
    if abs(alpha) < abs(beta):
        alpha, beta, log_p, gap = beta, alpha, log_q, -gap
    start = (alpha + beta) * log_p
    return (growth(alpha + beta, gap, start) - growth(beta, gap, start)) / alpha, slopes


@dataclass(frozen=True)
class _Kind:
    parts: Callable[..., tuple[Tensor, Tensor]]
    defaults: dict[str, float]


_KINDS = {
    "forward": _Kind(forward_parts, {}),
    "reverse": _Kind(reverse_parts, {}),
    "js": _Kind(js_parts, {"beta": 0.5}),
    "skew": _Kind(skew_parts, {"alpha": 0.1}),
    "skew_reverse": _Kind(skew_reverse_parts, {"alpha": 0.1}),
    "alpha_beta": _Kind(alpha_beta_parts, {"alpha": 0.8, "beta": 0.3}),
}
DIVERGENCES = tuple(_KINDS)
"""Names that `parts_of` knows."""


def parts_of(
    divergence: str, alpha: float | None = None, beta: float | None = None, asker: str = "linear"
) -> Parts:
    """The divergence of that name with its options set.

    Args:
        divergence: One of `DIVERGENCES`.
        alpha: Share in the mixture of ``skew`` (the teacher's) and ``skew_reverse`` (the
            student's), 0 to below 1, 0.1 if None; the teacher's power in ``alpha_beta``, 0.8.
        beta: The teacher's share in ``js``, between 0 and 1, 0.5 if None; the student's power in
            ``alpha_beta``, 0.3.
        asker: In whose name options are refused.

    Raises:
        RecipeError: There is no such divergence, it has no such option, or the value is outside.

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[0.5, 0.5]]).log()
        >>> log_q = torch.tensor([[0.25, 0.75]]).log()
        >>> values, slopes = parts_of("forward")(log_q, log_p)
        >>> (slopes - log_q.exp() * slopes.sum(-1, keepdim=True)).tolist()  # q - p
        [[-0.25, 0.25]]
    """
    if divergence not in _KINDS:
        raise RecipeError(
            f"{asker} knows no divergence {divergence!r}. {suggest(str(divergence), _KINDS)}"
        )
    kind = _KINDS[divergence]
    options = dict(kind.defaults)
    for name, value in (("alpha", alpha), ("beta", beta)):
        if value is None:
            continue
        if name not in options:
            raise RecipeError(f"{asker}: the divergence {divergence!r} has no option {name!r}.")
        options[name] = number(value, name, asker)
    _check_share(divergence, options, asker)
    return partial(kind.parts, **options) if options else kind.parts


def _check_share(divergence: str, options: dict[str, float], asker: str) -> None:
    if divergence == "js" and not 0 < options["beta"] < 1:
        raise RecipeError(
            f"{asker}: beta must be between 0 and 1, got {options['beta']!r}: the ends are "
            "'forward' (0) and 'reverse' (1)."
        )
    if divergence.startswith("skew") and not 0 <= options["alpha"] < 1:
        raise RecipeError(
            f"{asker}: alpha must be at least 0 and below 1, got {options['alpha']!r}: at 1 the "
            "divergence is 0 everywhere."
        )
