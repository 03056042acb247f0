"""Taking away what a map calls important: does the answer go with it?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.seeds import uniform
from tutelage.evaluation.whitebox import Logits


def deletion_curve(
    logits: Logits, inputs: Tensor, classes: Tensor, maps: Tensor, *, steps: int = 10
) -> Tensor:
    """Probability of the class while pixels go, the most important first.

    What goes is replaced by the mean of its channel in that image.

    Args:
        logits: The model (see `tutelage.evaluation.whitebox`).
        inputs: Images ``(N, C, H, W)``.
        classes: Whose probability, ``(N,)``.
        maps: Importance ``(N, H, W)``.
        steps: Into how many equal portions the pixels are cut.

    Returns:
        ``(N, steps + 1)`` of float64: before anything has gone, to when all has.

    Paper: Petsiuk et al., RISE, arXiv 1806.07421.
    """
    places = inputs[0, 0].numel()
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(places).expand_as(order))
    rank = rank.view(len(inputs), 1, *inputs.shape[2:])
    fill = inputs.mean((2, 3), keepdim=True)
    curve = []
    with torch.no_grad():
        for step in range(steps + 1):
            gone = rank < round(places * step / steps)
            answer = logits(torch.where(gone, fill, inputs)).double().log_softmax(1)
            curve.append(answer.gather(1, classes[:, None])[:, 0].exp().cpu())
    return torch.stack(curve, 1)


def area(curve: Tensor) -> Tensor:
    """Area below each curve by the trapezoid rule, its width 1, ``(N,)``; lower is better here.

    Example:
        >>> area(torch.tensor([[1.0, 0.5, 0.0]])).tolist()
        [0.5]
    """
    return torch.trapezoid(curve.double(), dim=1) / (curve.shape[1] - 1)


def chance(inputs: Tensor, ids: Tensor, seed: int) -> Tensor:
    """Maps that know nothing, ``(N, H, W)``: the control of a deletion curve, by example id."""
    places = inputs[0, 0].numel()
    return uniform(seed, ids.cpu(), places).view(len(inputs), *inputs.shape[2:]).double()


def hidden_cells(logits: Logits, inputs: Tensor, classes: Tensor, side: int) -> Tensor:
    """What hiding each cell of a grid costs: right before minus right after.

    Args:
        logits: The model.
        inputs: Images ``(N, C, H, W)``.
        classes: True class numbers ``(N,)``.
        side: Cells along each side.

    Returns:
        ``(N, side * side)`` of float64: 1 where the answer was right and is wrong without it.
    """
    fill = inputs.mean((2, 3), keepdim=True)
    which = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)
    where = F.interpolate(which, inputs.shape[2:], mode="nearest").long()
    with torch.no_grad():
        before = logits(inputs).argmax(1) == classes
        after = [
            logits(torch.where(where == cell, fill, inputs)).argmax(1) == classes
            for cell in range(side * side)
        ]
    return before.double()[:, None] - torch.stack(after, 1).double()
