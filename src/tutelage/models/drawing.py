"""Which token comes next, given the logits and a number in [0, 1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError


@dataclass(frozen=True)
class Draw:
    """How tokens are drawn.

    Attributes:
        most: Tokens that are written at most.
        temperature: What logits are divided by; 0 takes the likeliest token.
        top_p: Share of probability, of the likeliest tokens, that is drawn from: the fewest
            tokens that reach it (Holtzman et al., 2020, arXiv 1904.09751).
        top_k: How many of the likeliest tokens are drawn from; None for all.
        end: The token that ends a row; None where only ``most`` does.

    Raises:
        RecipeError: One of them is out of its range.

    Example:
        >>> Draw(16, temperature=0.0, end=2).top_p
        1.0
    """

    most: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        if self.most < 1:
            raise RecipeError(f"most must be at least 1 token, got {self.most!r}.")
        if not 0 <= self.temperature < float("inf"):
            raise RecipeError(f"temperature must be a number from 0, got {self.temperature!r}.")
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p must be above 0 and at most 1, got {self.top_p!r}.")
        if self.top_k is not None and self.top_k < 1:
            raise RecipeError(f"top_k must be at least 1, got {self.top_k!r}.")


def drawn(logits: Tensor, draw: Draw, chances: Tensor) -> Tensor:
    """One token for each row: the first at which the probabilities, added up, pass its chance.

    Args:
        logits: ``(N, V)``.
        draw: How; ``most`` and ``end`` are of no effect.
        chances: ``(N,)`` of float64 in [0, 1).

    Returns:
        Token numbers ``(N,)``.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]] * 2)
        >>> drawn(logits, Draw(1), torch.tensor([0.3, 0.9]).double()).tolist()
        [1, 3]
    """
    if draw.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.double() / draw.temperature).softmax(-1)
    kept = _kept(probabilities, draw)
    if kept is not None:
        probabilities = probabilities.masked_fill(~kept, 0.0)
    total = probabilities.cumsum(-1)
    wanted = chances.to(total).unsqueeze(-1) * total[:, -1:]
    found = torch.searchsorted(total, wanted, right=True).squeeze(-1)
    return found.clamp(max=logits.shape[-1] - 1)


def _kept(probabilities: Tensor, draw: Draw) -> Tensor | None:
    """Which tokens are drawn from, ``(N, V)`` of bool; None for all."""
    if draw.top_k is None and draw.top_p >= 1:
        return None
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if draw.top_k is not None:
        keep[:, draw.top_k :] = False
    if draw.top_p < 1:
        ranked = ranked.masked_fill(~keep, 0.0)
        share = ranked / ranked.sum(-1, keepdim=True)
        keep &= share.cumsum(-1) - share < draw.top_p  # the first always is
    return torch.zeros_like(keep).scatter(-1, order, keep)
