"""Trigger inversion: the smallest patch that makes a model answer one class to anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator

Answer = Callable[[Tensor], Tensor]
"""From images ``(N, C, H, W)`` in [0, 1] to logits ``(N, K)``, with gradients to the images."""

_KEPT = 0.8  # of the running success, a step
_FIRST_PRICE = 1e-3  # of a pixel, in nats
_HARDER, _EASIER = 1.1, 1.15  # the price of a pixel, where the trigger works and where it does not


@dataclass(frozen=True)
class Triggers:
    """The best trigger found for each of some classes.

    Attributes:
        classes: Which.
        masks: How much of each pixel is replaced ``(K, H, W)``, in [0, 1].
        patterns: What it is replaced by ``(K, C, H, W)``, in [0, 1].
        reached: Whether the success asked for was reached ``(K,)`` of bool; where not, the mask
            is the last one, and its size says nothing.
    """

    classes: tuple[int, ...]
    masks: Tensor
    patterns: Tensor
    reached: Tensor

    @property
    def sizes(self) -> Tensor:
        """The mask's sum ``(K,)``: the trigger's size in pixels."""
        return self.masks.double().sum((1, 2))


def stamp(images: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    """Put a trigger on images: ``(1 - m) x + m p``.

    Args:
        images: ``(N, C, H, W)``.
        mask: ``(H, W)`` in [0, 1].
        pattern: ``(C, H, W)`` in [0, 1].

    Returns:
        ``(N, C, H, W)``.

    Example:
        >>> stamp(torch.zeros(1, 1, 1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 1, 2)).tolist()
        [[[[1.0, 0.0]]]]
    """
    return (1 - mask) * images + mask * pattern


def invert(
    answer: Answer,
    images: Tensor,
    classes: Sequence[int],
    *,
    seed: int,
    steps: int = 150,
    batch_size: int = 32,
    success: float = 0.95,
    learning_rate: float = 0.1,
) -> Triggers:
    """Look for the smallest trigger towards each class, all classes at once.

    ``min over m, p of  CE(f((1 - m) x + m p), c) + λ_c |m|₁`` by Adam; λ_c rises while the trigger
    works on at least ``success`` of the images and falls while it does not, and the smallest mask
    that worked is kept.

    Args:
        answer: The model, in eval mode.
        images: What the trigger is put on ``(N, C, H, W)``, in [0, 1]; of all classes.
        classes: Towards which.
        seed: Of the first mask and pattern, and of the order of the images.
        steps: Of Adam.
        batch_size: Images a step, each of them once for every class.
        success: Share of images that must be turned.
        learning_rate: Of Adam.

    Raises:
        DataError: There are no images.

    Paper: Wang et al., Neural Cleanse, IEEE S&P 2019. Deviates: λ moves in every step by a
    running mean of the success, which needs 150 steps where the paper's schedule needs thousands.
    """
    if images.ndim != 4 or not len(images):
        raise DataError(
            f"triggers are looked for on images (N, C, H, W), and {tuple(images.shape)} was given."
        )
    many, (channels, height, width) = len(classes), images.shape[1:]
    dice = generator(seed, "trigger inversion", *classes)
    drawn = (
        torch.randn(many, 1, height, width, generator=dice) * 0.5 - 1,
        torch.randn(many, channels, height, width, generator=dice) * 0.5,
    )
    raw = [each.to(images.device).requires_grad_() for each in drawn]
    adam = torch.optim.Adam(raw, learning_rate, betas=(0.5, 0.9))
    goals = torch.tensor(list(classes), device=images.device)
    price = torch.full((many,), _FIRST_PRICE, device=images.device)
    running = torch.zeros(many, device=images.device)
    best = torch.full((many,), float("inf"), device=images.device)
    masks, patterns = (each.detach().sigmoid().clone() for each in raw)
    for _ in range(steps):
        rows = torch.randint(len(images), (min(batch_size, len(images)),), generator=dice)
        mask, pattern = raw[0].sigmoid(), raw[1].sigmoid()
        shown = (1 - mask)[:, None] * images[rows.to(images.device)] + (mask * pattern)[:, None]
        logits = answer(shown.flatten(0, 1)).view(many, len(rows), -1)
        wanted = goals[:, None].expand(many, len(rows))
        losses = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        size = mask.sum((1, 2, 3))
        total = losses.view(many, -1).mean(1).sum() + (price * size).sum()
        turned = (logits.argmax(-1) == wanted).float().mean(1)
        running = _KEPT * running + (1 - _KEPT) * turned
        works = running >= success
        better = works & (size.detach() < best)
        best = torch.where(better, size.detach(), best)
        masks[better], patterns[better] = mask.detach()[better], pattern.detach()[better]
        price = torch.where(works, price * _HARDER, price / _EASIER)
        for each, slope in zip(raw, torch.autograd.grad(total, raw), strict=True):
            each.grad = slope
        adam.step()
    reached = best.isfinite()
    masks[~reached], patterns[~reached] = (each.detach().sigmoid()[~reached] for each in raw)
    return Triggers(tuple(classes), masks[:, 0].cpu(), patterns.cpu(), reached.cpu())
