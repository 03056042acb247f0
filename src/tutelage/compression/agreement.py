"""How near a compressed model's answers come to those of the model it was made of."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ExportError
from tutelage.core.outputs import Outputs, dense
from tutelage.evaluation.intervals import Interval, newcombe
from tutelage.evaluation.predict import evaluating

_AT_ONCE = 256  # examples


@dataclass(frozen=True)
class Agreement:
    """The answers before and after compression, on the same real examples.

    Attributes:
        max_difference: Largest difference of any logit, as a share of the largest logit before.
        equal_top1: Share of examples with the same answer.
        examples: How many were compared.
        accuracy_before: Share of right answers before; None without labels.
        accuracy_after: Share of right answers after; None without labels.
        accuracy_loss: Accuracy before minus after, with Newcombe's paired interval: positive
            where compression costs accuracy; None without labels.
    """

    max_difference: float
    equal_top1: float
    examples: int
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_loss: Interval | None = None


def agreement_of(
    before: Tensor, after: Tensor, targets: Tensor | None = None, *, level: float = 0.95
) -> Agreement:
    """Compare logits before and after.

    Args:
        before: The model's own logits ``(N, C)``.
        after: The compressed model's, for the same examples.
        targets: Class numbers ``(N,)``, negative where unlabelled; None gives no accuracy.
        level: Confidence of the interval of the loss.

    Raises:
        DataError: The logits or targets are not for the same examples.
        ExportError: The compressed model's logits are not finite.

    Example:
        >>> one = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
        >>> two = torch.tensor([[4.0, 1.0], [2.0, 1.0]])
        >>> found = agreement_of(one, two, torch.tensor([0, 1]))
        >>> found.max_difference, found.equal_top1, found.accuracy_loss.mean
        (0.25, 0.5, 0.5)
    """
    if before.shape != after.shape or before.ndim != 2 or len(before) == 0:
        raise DataError(
            f"logits of shapes {tuple(before.shape)} and {tuple(after.shape)} were given: (N, C) "
            "for the same examples is needed of both models."
        )
    if not bool(after.isfinite().all()):
        raise ExportError("the compressed model answers with NaN or infinite logits.")
    before, after = before.double(), after.double()
    scale = before.abs().amax().clamp(min=1e-12)
    equal = (before.argmax(-1) == after.argmax(-1)).double().mean().item()
    found = Agreement(float((before - after).abs().amax() / scale), equal, len(before))
    known = None if targets is None else _known(targets, len(before))
    if known is None or not bool(known.any()):
        return found
    assert targets is not None
    right = [(logits.argmax(-1) == targets)[known] for logits in (before, after)]
    loss = _loss(right[0], right[1], level)
    shares = [each.double().mean().item() for each in right]
    return Agreement(
        found.max_difference, equal, found.examples, shares[0], shares[1], accuracy_loss=loss
    )


def answers(model: Callable[[Batch], Outputs], examples: Batch) -> Tensor:
    """A model's logits ``(N, C)`` for all examples, a few hundred at once.

    Raises:
        DataError: There are no examples.
    """
    if len(examples) == 0:
        raise DataError("no examples were given: a compressed model is compared on real ones.")
    with evaluating(model), torch.no_grad():
        parts = [
            dense(model(examples[start : start + _AT_ONCE]), "compression").float().cpu()
            for start in range(0, len(examples), _AT_ONCE)
        ]
    return torch.cat(parts)


def _known(targets: Tensor, total: int) -> Tensor:
    if targets.shape != (total,) or targets.is_floating_point():
        raise DataError(
            f"targets of shape {tuple(targets.shape)} and {targets.dtype} were given for {total} "
            "examples: class numbers (N,), or none, are needed to measure accuracy."
        )
    return targets >= 0


def _loss(before: Tensor, after: Tensor, level: float) -> Interval:
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    return newcombe(both, lost, gained, neither, level=level)
