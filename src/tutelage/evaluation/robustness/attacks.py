"""Attacks on images in [0, 1] within ``|x' - x| <= epsilon`` in every pixel (L-infinity).

All ask the model in eval mode for logits (see `tutelage.evaluation.whitebox`), keep images in
[0, 1], and count an example as robust only if it is right before the attack and on every image
that the attack has tried. Random starts go by (seed, example id): an example meets the same
attack in any batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.errors import DataError, suggest
from tutelage.core.seeds import derive, uniform
from tutelage.evaluation.whitebox import Logits, portions


@dataclass(frozen=True)
class Attacked:
    """What an attack did.

    Attributes:
        robust: Who was right before and on every image tried, ``(N,)`` of bool.
        images: The last images of the first start ``(N, ...)``, to try on another model: those
            that go on after the first success carry over better.
    """

    robust: Tensor
    images: Tensor


def ce(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the true class, ``(N,)``: what FGSM and PGD raise in their papers."""
    return F.cross_entropy(logits, targets, reduction="none")


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Best other logit minus the true one, ``(N,)``: above 0 is fooled.

    Its gradient does not fade where the softmax is saturated, so it tells a model that is robust
    from one that only scales its logits. The loss of Carlini and Wagner, arXiv 1608.04644.
    """
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], float("-inf"))
    return others.amax(1) - own


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": ce, "margin": margin}


def fgsm(logits: Logits, inputs: Tensor, targets: Tensor, *, epsilon: float) -> Attacked:
    """One step of full length: ``clamp(x + epsilon sign(grad_x CE))``.

    Args:
        logits: The model.
        inputs: ``(N, ...)`` in [0, 1].
        targets: True class numbers ``(N,)``.
        epsilon: Largest change of a pixel.

    Paper: Goodfellow et al., arXiv 1412.6572.
    """
    _check(inputs, targets, epsilon)
    steps = [
        _step(logits, inputs[rows], inputs[rows], targets[rows], epsilon, epsilon, ce)[0]
        for rows in portions(len(inputs))
    ]
    moved = torch.cat(steps)
    return Attacked(right(logits, inputs, targets) & right(logits, moved, targets), moved)


def pgd(
    logits: Logits,
    inputs: Tensor,
    targets: Tensor,
    ids: Tensor,
    *,
    epsilon: float,
    steps: int = 20,
    restarts: int = 1,
    loss: str = "ce",
    seed: int = 0,
) -> Attacked:
    """Projected gradient ascent from random starts, the strongest first-order attack of its kind.

    ``x_0 = x + U(-epsilon, epsilon)``, ``x_k+1 = clip(x_k + a sign(grad loss))`` into the cube of
    epsilon around x and into [0, 1], with ``a = 2.5 epsilon / steps``, so that the far side of
    the cube can be reached from any start.

    Args:
        logits: The model.
        inputs: ``(N, ...)`` in [0, 1].
        targets: True class numbers ``(N,)``.
        ids: Example numbers ``(N,)``: they and ``seed`` make the starts.
        epsilon: Largest change of a pixel; 1 and more is no bound at all.
        steps: Gradients a start.
        restarts: Starts; from the second on only of who is still robust.
        loss: ``ce``, or ``margin``.
        seed: Of the starts.

    Example:
        >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        >>> pair = torch.tensor([[0.9, 0.1], [0.6, 0.5]])
        >>> truth = torch.tensor([0, 0])
        >>> pgd(lambda x: x @ weight.T, pair, truth, torch.arange(2), epsilon=0.1).robust.tolist()
        [True, False]

    Paper: Madry et al., arXiv 1706.06083. We stop nowhere early, and count every image on the
    way, not the last alone.
    """
    _check(inputs, targets, epsilon)
    if loss not in LOSSES:
        raise DataError(f"there is no loss {loss!r} to attack with. {suggest(loss, LOSSES)}")
    if steps < 1 or restarts < 1:
        raise DataError(f"{steps} steps and {restarts} restarts were asked: at least 1 of both.")
    robust, images = right(logits, inputs, targets), inputs.clone()
    for restart in range(restarts):
        rows = torch.arange(len(inputs)) if restart == 0 else robust.nonzero()[:, 0]
        for portion in portions(len(rows)):
            some = rows[portion]
            dice = derive(seed, "pgd", restart)
            moved = _start(inputs[some], ids[some], epsilon, dice)
            moved, fooled = _climb(
                logits, moved, inputs[some], targets[some], epsilon, steps, LOSSES[loss]
            )
            robust[some] &= ~fooled
            if restart == 0:
                images[some] = moved
    return Attacked(robust, images)


def noise(
    logits: Logits,
    inputs: Tensor,
    targets: Tensor,
    ids: Tensor,
    *,
    epsilon: float,
    draws: int = 10,
    seed: int = 0,
) -> Attacked:
    """Every pixel moved by plus or minus epsilon at random, some times: no gradient is asked.

    An attack so weak that one which uses gradients must beat it; where it does not, they mislead.
    """
    _check(inputs, targets, epsilon)
    robust, images = right(logits, inputs, targets), inputs.clone()
    for draw in range(draws):
        signs = uniform(derive(seed, "noise", draw), ids.cpu(), inputs[0].numel()) >= 0.5
        moved = inputs + epsilon * (2 * signs.view(inputs.shape).to(inputs) - 1)
        moved = moved.clamp(0, 1)
        robust &= right(logits, moved, targets)
        images = moved if draw == 0 else images
    return Attacked(robust, images)


def right(logits: Logits, inputs: Tensor, targets: Tensor) -> Tensor:
    """Who is answered rightly, ``(N,)`` of bool; no gradient is kept."""
    with torch.no_grad():
        said = [logits(inputs[rows]).argmax(1) for rows in portions(len(inputs))]
    return torch.cat(said) == targets


def without_gradient(
    logits: Logits, inputs: Tensor, targets: Tensor, *, loss: str = "ce"
) -> Tensor:
    """Whose loss has a gradient of exactly 0 in every pixel, ``(N,)`` of bool."""
    found = []
    for rows in portions(len(inputs)):
        slope, _ = _slope(logits, inputs[rows], targets[rows], LOSSES[loss])
        found.append((slope.flatten(1) == 0).all(1))
    return torch.cat(found)


def _start(inputs: Tensor, ids: Tensor, epsilon: float, seed: int) -> Tensor:
    dice = uniform(seed, ids.cpu(), inputs[0].numel()).view(inputs.shape).to(inputs)
    return (inputs + epsilon * (2 * dice - 1)).clamp(0, 1)


def _climb(
    logits: Logits,
    moved: Tensor,
    inputs: Tensor,
    targets: Tensor,
    epsilon: float,
    steps: int,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The images after all steps, and who was fooled by any on the way."""
    fooled = torch.zeros(len(inputs), dtype=torch.bool)
    for _ in range(steps):
        length = 2.5 * epsilon / steps
        moved, said = _step(logits, moved, inputs, targets, epsilon, length, loss)
        fooled |= said != targets
    return moved, fooled | ~right(logits, moved, targets)


def _step(
    logits: Logits,
    moved: Tensor,
    inputs: Tensor,
    targets: Tensor,
    epsilon: float,
    length: float,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Images one step on, and what the model said of them before it."""
    slope, said = _slope(logits, moved, targets, loss)
    moved = moved + length * slope.sign()
    moved = torch.minimum(torch.maximum(moved, inputs - epsilon), inputs + epsilon)
    return moved.clamp(0, 1), said


def _slope(
    logits: Logits, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Gradient of each example's loss by its inputs (0 where it is no number), and the answers."""
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        answer = logits(inputs)
        (slope,) = torch.autograd.grad(loss(answer, targets).sum(), inputs, materialize_grads=True)
    return slope.nan_to_num(0.0, 0.0, 0.0), answer.detach().argmax(1)


def _check(inputs: Tensor, targets: Tensor, epsilon: float) -> None:
    if len(inputs) != len(targets) or len(inputs) == 0 or not inputs.is_floating_point():
        raise DataError(
            f"inputs of {inputs.dtype} and shape {tuple(inputs.shape)} with {len(targets)} "
            "targets were given: floats (N, ...) and a class number for each are needed."
        )
    if not bool(((inputs >= 0) & (inputs <= 1)).all()):
        raise DataError("some inputs are below 0, above 1 or NaN: attacks keep to [0, 1].")
    if not epsilon > 0:
        raise DataError(f"epsilon is {epsilon}: give the largest change of a pixel, above 0.")
