"""Divergences of two distributions by name, from log-probabilities that may be a sum of two."""

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError, suggest
from tutelage.objectives.response.log_space import log_mixture, relative_entropy

DIVERGENCES = ("forward", "reverse", "js")
"""Names that `apart` knows."""


def apart(log_q: Tensor, log_p: Tensor, divergence: str) -> Tensor:
    r"""The divergence of that name over the last dimension.

    ``forward`` is KL(p, q), ``reverse`` KL(q, p), ``js`` half of KL(p, m) and half of KL(q, m) with
    m the mean of both.

    Args:
        log_q: The student's log-probabilities ``(..., K)``, finite.
        log_p: The teacher's, likewise.
        divergence: One of `DIVERGENCES`.

    Returns:
        ``(...)``, in nats.

    Example:
        >>> half = torch.tensor([0.5, 0.5]).log()
        >>> apart(half, torch.tensor([0.25, 0.75]).log(), "forward").item()
        0.1308...
    """
    if divergence == "forward":
        return relative_entropy(log_p, log_q)
    if divergence == "reverse":
        return relative_entropy(log_q, log_p)
    log_m = log_mixture(log_p, log_q, 0.5)
    return (relative_entropy(log_p, log_m) + relative_entropy(log_q, log_m)) / 2


def known(divergence: str, asker: str) -> str:
    """The name, if it is one of `DIVERGENCES`.

    Raises:
        RecipeError: It is not.
    """
    if divergence not in DIVERGENCES:
        raise RecipeError(
            f"{asker} knows no divergence {divergence!r}. {suggest(str(divergence), DIVERGENCES)}"
        )
    return divergence


def log_one_less(log_surprisal: Tensor) -> Tensor:
    r"""The log of one minus a probability, from the log of its surprisal.

    .. math:: \log (1 - e^{-s}), \quad s = e^x

    A probability so near to one that it is one in fp32 still has a log of what it lacks.

    Args:
        log_surprisal: x, of any shape.

    Returns:
        Of the same shape, at most 0.

    Example:
        >>> log_one_less(torch.tensor([-1e4, 0.0]))
        tensor([-1.0000e+04, -4.5868e-01])
    """
    # Every branch is finite everywhere, so that none spoils another's gradient.
    tiny, large = log_surprisal < -15, log_surprisal > -0.3665
    near_one = log_surprisal - log_surprisal.clamp(max=-15).exp() / 2
    below = torch.log(-torch.expm1(-log_surprisal.clamp(min=-15, max=-0.3665).exp()))
    above = torch.log1p(-torch.exp(-log_surprisal.clamp(min=-0.3665).exp()))
    return torch.where(tiny, near_one, torch.where(large, above, below))
