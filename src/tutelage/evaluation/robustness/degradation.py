"""What corruption costs a model: pure functions of which answers stayed right."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import paired_bootstrap


def mean_corruption_error(errors: Tensor, reference: Tensor) -> float | None:
    """Errors under corruption against those of a reference model, mean over the kinds.

    ``mean_k( sum_s E[k, s] / sum_s R[k, s] )``: 1 where the model errs as often as the reference,
    below 1 where less. Each kind weighs the same, however hard it is.

    Args:
        errors: Error rates ``(K, S)`` by kind and severity.
        reference: The same of the reference (the student alone, the teacher).

    Returns:
        The ratio; None where the reference never errs under some kind.

    Example:
        >>> mean_corruption_error(torch.tensor([[0.1, 0.3]]), torch.tensor([[0.2, 0.6]]))
        0.5

    Paper: Hendrycks and Dietterich, arXiv 1903.12261 (there the reference is AlexNet).
    """
    errors, reference = _rates(errors, reference)
    below = reference.sum(1)
    return None if bool((below == 0).any()) else (errors.sum(1) / below).mean().item()


def relative_corruption_error(
    errors: Tensor, clean: float, reference: Tensor, reference_clean: float
) -> float | None:
    """Errors that corruption *added*, against those that it added to the reference.

    ``mean_k( sum_s (E[k, s] - E0) / sum_s (R[k, s] - R0) )``, E0 and R0 the clean error rates:
    says whether a model is hurt more, apart from whether it is better.

    Returns:
        The ratio; None where some kind costs the reference nothing (or helps it).

    Paper: Hendrycks and Dietterich, arXiv 1903.12261 (relative mCE).
    """
    errors, reference = _rates(errors, reference)
    below = (reference - reference_clean).sum(1)
    if bool((below <= 0).any()):
        return None
    return ((errors - clean).sum(1) / below).mean().item()


def kept(clean: Tensor, corrupted: Tensor) -> float | None:
    """Accuracy under corruption as a share of the clean accuracy.

    Args:
        clean: Right answers ``(N,)`` of bool to the clean examples.
        corrupted: Right answers ``(..., N)`` of bool to corrupted versions of them.

    Returns:
        1 where nothing was lost; None for a model that was never right.

    Example:
        >>> clean = torch.tensor([True, True, False, False])
        >>> kept(clean, torch.tensor([[True, False, False, False]]))
        0.5
    """
    if not bool(clean.any()):
        return None
    return (corrupted.double().mean() / clean.double().mean()).item()


def lost(clean: Tensor, corrupted: Tensor) -> Tensor:
    """What corruption cost each example: right before minus share right after, ``(N,)``.

    Args:
        clean: ``(N,)`` of bool.
        corrupted: ``(..., N)`` of bool: all versions of each.
    """
    return clean.double() - corrupted.double().reshape(-1, corrupted.shape[-1]).mean(0)


def against(
    student: tuple[Tensor, Tensor],
    other: tuple[Tensor, Tensor],
    kinds: Sequence[str],
    *,
    seed: int,
    level: float = 0.95,
) -> dict[str, Any]:
    """What corruption cost the student beyond what it cost another model, on the same images.

    Args:
        student: Right answers of bool, clean ``(N,)`` and corrupted ``(K, S, N)``.
        other: The same of the other model.
        kinds: Names of the K kinds.
        seed: Of the bootstrap.
        level: Confidence of ``loss``; the kinds' own intervals allow for their number
            (Bonferroni).

    Returns:
        ``loss``: difference of the mean accuracies lost, with its interval (over examples);
        ``kinds``: the same for each; ``error`` and ``relative_error``: see
        `mean_corruption_error` and `relative_corruption_error`.
    """

    def loss(where: slice, sure: float) -> dict[str, float | str]:
        mine, its = (lost(clean, after[where]) for clean, after in (student, other))
        return paired_bootstrap(mine, its, seed=seed, level=sure).as_dict()

    (errors, clean), (reference, reference_clean) = (
        (1 - after.double().mean(-1), 1 - before.double().mean().item())
        for before, after in (student, other)
    )
    apart = 1 - (1 - level) / len(kinds)
    return {
        "loss": loss(slice(None), level),
        "kinds": {kind: loss(slice(n, n + 1), apart) for n, kind in enumerate(kinds)},
        "error": mean_corruption_error(errors, reference),
        "relative_error": relative_corruption_error(errors, clean, reference, reference_clean),
    }


def _rates(errors: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if errors.ndim != 2 or errors.shape != reference.shape or errors.numel() == 0:
        raise DataError(
            f"error rates of shapes {tuple(errors.shape)} and {tuple(reference.shape)} were "
            "given: (kinds, severities) of both models are needed."
        )
    errors, reference = errors.double(), reference.double()
    both = torch.stack([errors, reference])
    if not bool(((both >= 0) & (both <= 1)).all()):
        raise DataError("some error rates are outside [0, 1] or NaN.")
    return errors, reference
