"""One model scanned: the best trigger towards every class, and what it does to images."""

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.seeds import derive
from tutelage.evaluation.backdoor.inversion import Triggers, invert
from tutelage.evaluation.predict import evaluating
from tutelage.models.observed import Observed

_AT_ONCE = 640  # images in one forward pass


def scan(
    model: Observed,
    images: Tensor,
    classes: int,
    *,
    seed: int,
    steps: int = 150,
    restarts: int = 2,
    batch_size: int = 32,
) -> Triggers:
    """The smallest working trigger of several searches, for each class.

    Args:
        model: On trial; it is left as it is.
        images: What triggers are fitted on ``(N, C, H, W)``: never the test images.
        classes: How many there are.
        seed: Of the searches.
        steps: Of each search.
        restarts: Searches; one alone may end in a poor trigger where a small one exists.
        batch_size: Images a step, each of them once for every class.

    Returns:
        One trigger a class. A class that no search reached has a mask as large as the image.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    together = max(_AT_ONCE // batch_size, 1)

    def answer(shown: Tensor) -> Tensor:
        logits: Tensor = model(Batch(shown)).logits
        return logits

    best: Triggers | None = None
    with evaluating(model):
        for restart in range(restarts):
            parts = [
                invert(
                    answer,
                    images.to(device),
                    list(range(first, min(first + together, classes))),
                    seed=derive(seed, "restart", restart),
                    steps=steps,
                    batch_size=batch_size,
                )
                for first in range(0, classes, together)
            ]
            best = _better(best, _joined(parts))
    assert best is not None
    return best


def obeyed(model: Observed, images: Tensor, label: int) -> int:
    """How many of these images ``(N, C, H, W)`` the model answers with ``label``."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluating(model), torch.no_grad():
        said = [
            model(Batch(some.to(device))).logits.argmax(-1).cpu()
            for some in torch.split(images, 512)
        ]
    return int((torch.cat(said) == label).sum())


def _joined(parts: list[Triggers]) -> Triggers:
    found = Triggers(
        tuple(label for part in parts for label in part.classes),
        torch.cat([part.masks for part in parts]),
        torch.cat([part.patterns for part in parts]),
        torch.cat([part.reached for part in parts]),
    )
    found.masks[~found.reached] = 1.0
    return found


def _better(first: Triggers | None, second: Triggers) -> Triggers:
    if first is None:
        return second
    wins = second.sizes < first.sizes
    return Triggers(
        first.classes,
        torch.where(wins[:, None, None], second.masks, first.masks),
        torch.where(wins[:, None, None, None], second.patterns, first.patterns),
        first.reached | second.reached,
    )
