r"""(No situation) The gradient of the reverse KL divergence of whole texts, as MiniLLM takes it.

With q the student, p the teacher, and :math:`r_t = \log p(y_t) - \log q(y_t)` at each token:

.. math:: \nabla KL(q \| p) = E_{y \sim q} \sum_t \Big[
    \nabla KL\big(q(\cdot | y_{<t}) \,\|\, p(\cdot | y_{<t})\big)
    - R_{t+1} \nabla \log q(y_t | y_{<t}) \Big], \quad R_{t+1} = \sum_{s > t} r_s

The first part is exact over the vocabulary at each token (the single-step part), the second is
what a token does to all that follows (the long part).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.objectives.response.log_space import relative_entropy
from tutelage.objectives.units import paired_logits

Weights = Literal["step", "text", "none"]


def rewards_to_come(
    rewards: Tensor, mask: Tensor, *, per_token: bool = True, weights: Tensor | None = None
) -> Tensor:
    r"""What follows each token is worth.

    .. math:: R_{t+1} = \sum_{s > t} r_s, \quad
        R^{norm}_{t+1} = \frac{1}{n_t} \sum_{s > t} r_s

    with n_t the number of tokens after t.

    Args:
        rewards: r, ``(N, T)``.
        mask: Which tokens were written, ``(N, T)`` of bool.
        per_token: Divide by the number of tokens that follow, so that long texts weigh no more.
        weights: A factor for each r, ``(N, T)``.

    Returns:
        ``(N, T)``; 0 at the last token.

    Example:
        >>> rewards_to_come(torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3).bool())
        tensor([[3., 4., 0.]])
    """
    kept = torch.where(mask, rewards if weights is None else rewards * weights, 0.0)
    after = _after(kept)
    return after / _after(mask.to(kept.dtype)).clamp(min=1) if per_token else after


def text_weights(now: Tensor, drawn: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    r"""Importance weights of all text up to each token: exact, and of large variance.

    .. math:: w_{<t} = \prod_{s < t} \frac{q(y_s)}{\tilde p(y_s)}, \quad
        w_{\le t} = \prod_{s \le t} \frac{q(y_s)}{\tilde p(y_s)}

    The single-step part at t is weighed by the text before t; each reward by the text up to it.

    Args:
        now: Log-probabilities under the student, ``(N, T)``.
        drawn: Those with which the tokens were drawn.
        mask: Which tokens were written, ``(N, T)`` of bool.

    Returns:
        Both, ``(N, T)`` each.

    Example:
        >>> now, drawn = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.5]]).log()
        >>> text_weights(now, drawn, torch.ones(1, 2).bool())
        (tensor([[1., 2.]]), tensor([[2., 2.]]))
    """
    upto = torch.where(mask, now - drawn, 0.0).cumsum(1)
    return F.pad(upto, (1, -1)).exp(), upto.exp()


def clipped_surrogate(ratio: Tensor, gain: Tensor, clip: float | None = None) -> Tensor:
    r"""What is lowered so that tokens become likelier by their gain (PPO, arXiv:1707.06347).

    .. math:: -\min\big(\rho \, g, \; clamp(\rho, 1 - \epsilon, 1 + \epsilon) \, g\big)

    Args:
        ratio: Rho, of the probability now to that of the draw, ``(N, T)``; its gradient is what
            is learnt from.
        gain: g, without gradient.
        clip: Epsilon; None never clips.

    Returns:
        ``(N, T)``.

    Example:
        >>> clipped_surrogate(torch.tensor([1.5, 0.5]), torch.tensor([1.0, 1.0]), 0.2)
        tensor([-1.2000, -0.5000])
    """
    plain = ratio * gain
    if clip is None:
        return -plain
    return -torch.minimum(plain, ratio.clamp(1 - clip, 1 + clip) * gain)


def minillm_parts(
    student: Tensor,
    teacher: Tensor,
    tokens: Tensor,
    drawn: Tensor,
    *,
    weights: Weights = "step",
    per_token: bool = True,
    clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The single-step part and the long part at each token; their sum is to be lowered.

    Args:
        student: Logits ``(N, T, V)``.
        teacher: Logits of the same shape.
        tokens: What was written at each position, ``(N, T)``; negative where nothing was.
        drawn: Log-probabilities with which they were drawn, ``(N, T)``.
        weights: ``step``, ``text`` or ``none``: importance weights. ``step`` is MiniLLM's
            :math:`w_t = q(y_t) / \tilde p(y_t)`, ``text`` are those of `text_weights`.
        per_token: Divide what follows each token by its length.
        clip: Bound of `clipped_surrogate` with ``step``; with ``none`` the ratio is 1.

    Returns:
        Both, ``(N, T)`` each. With weights of texts, or none on the student's own text, and
        without ``per_token`` and ``clip``, the gradient of their sum over a text has as its mean
        that of the reverse KL divergence of texts. The second part's value means nothing.

    Example:
        >>> z, tokens = torch.zeros(1, 2, 4), torch.tensor([[3, 1]])
        >>> single, long = minillm_parts(z, z, tokens, torch.full((1, 2), 0.25).log())
        >>> single.tolist(), long.abs().tolist()
        ([[0.0, 0.0]], [[0.0, 0.0]])
    """
    q, p = paired_logits(student, teacher, "minillm")
    log_q, log_p = F.log_softmax(q, dim=-1), F.log_softmax(p, dim=-1)
    mask, chosen = tokens >= 0, tokens.clamp(min=0).unsqueeze(-1)
    ours, theirs = (t.gather(-1, chosen).squeeze(-1) for t in (log_q, log_p))
    now = ours.detach()
    rewards, single = theirs - now, relative_entropy(log_q, log_p)
    if weights == "text":
        before, upto = text_weights(now, drawn, mask)
        gain = rewards_to_come(rewards, mask, per_token=per_token, weights=upto)
        return before * single, -gain * ours
    gain = rewards_to_come(rewards, mask, per_token=per_token)
    then = now if weights == "none" else drawn
    ratio = torch.where(mask, ours - then, 0.0).exp()
    return ratio.detach() * single, clipped_surrogate(ratio, gain, clip)


def _after(values: Tensor) -> Tensor:
    """Sums of what comes later in each row, ``(N, T)``."""
    upto = values.flip(1).cumsum(1).flip(1)
    return F.pad(upto[:, 1:], (0, 1))
