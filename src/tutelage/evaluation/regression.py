"""Figures of models that answer with numbers: errors, correlation, and student against teacher.

Everything is computed in float64. NaN or infinite values are refused. What is not defined (R² and
correlation of one example, correlation with a constant) is None, never a number.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import paired_bootstrap


def mean_absolute_error(values: Tensor, targets: Tensor) -> float:
    """``mean |ŷ − y|``, in the target's unit.

    Args:
        values: Answers ``(N,)``.
        targets: The truth ``(N,)``.

    Example:
        >>> mean_absolute_error(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0]))
        1.5
    """
    values, targets = checked_values(values, targets)
    return (values - targets).abs().mean().item()


def root_mean_squared_error(values: Tensor, targets: Tensor) -> float:
    """``sqrt(mean (ŷ − y)²)``, in the target's unit; large errors weigh more.

    Example:
        >>> root_mean_squared_error(torch.tensor([1.0, 7.0]), torch.tensor([0.0, 0.0]))
        5.0
    """
    values, targets = checked_values(values, targets)
    return math.sqrt((values - targets).square().mean().item())


def r2(values: Tensor, targets: Tensor) -> float | None:
    """Share of the targets' variance that is explained: ``1 − Σ(ŷ − y)² / Σ(y − mean y)²``.

    1 for a perfect model, 0 for one that always says the mean, below 0 for worse ones. Of targets
    that are all the same: 1 where every answer is right, else 0, as scikit-learn has it. None for
    fewer than two examples.

    Example:
        >>> r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))
        0.785714...
    """
    values, targets = checked_values(values, targets)
    if len(targets) < 2:
        return None
    left = (values - targets).square().sum().item()
    # As by its own mean: a constant that no float holds exactly has no variance by rounding.
    constant = bool((targets == targets[0]).all())
    whole = 0.0 if constant else (targets - targets.mean()).square().sum().item()
    if whole == 0:
        return 1.0 if left == 0 else 0.0
    return 1 - left / whole


def pearson(first: Tensor, second: Tensor) -> float | None:
    """Pearson's correlation, −1 to 1; None where one of the two is constant.

    Example:
        >>> round(pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])), 6)
        1.0
    """
    first, second = checked_values(first, second)
    if len(first) < 2 or bool((first == first[0]).all()) or bool((second == second[0]).all()):
        return None
    a, b = first - first.mean(), second - second.mean()
    a, b = a / a.abs().amax(), b / b.abs().amax()  # nothing overflows when squared
    found = float((a @ b) / (a.norm() * b.norm()))
    return max(-1.0, min(1.0, found))


def regression_figures(values: Tensor, targets: Tensor) -> dict[str, Any]:
    """All of these of one model: ``mae``, ``rmse``, ``r2``, ``pearson``, ``bias``, ``examples``.

    ``bias`` is ``mean (ŷ − y)``: above 0 for a model that says too much.
    """
    values, targets = checked_values(values, targets)
    return {
        "examples": len(targets),
        "mae": mean_absolute_error(values, targets),
        "rmse": root_mean_squared_error(values, targets),
        "r2": r2(values, targets),
        "pearson": pearson(values, targets),
        "bias": (values - targets).mean().item(),
    }


def evaluate_regression(
    targets: Tensor,
    student: Tensor,
    teacher: Tensor | None = None,
    baseline: Tensor | None = None,
    *,
    slices: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """A report's figures for models that answer with a number.

    Args:
        targets: The truth ``(N,)``.
        student: Its answers ``(N,)``.
        teacher: Likewise; None where there is none.
        baseline: Of the same student trained without a teacher; None where there is none.
        slices: Parts of the examples by name, each ``(N,)`` of bool; they may overlap.
        seed: Of the bootstrap.
        level: Confidence of all intervals.

    Returns:
        ``models``: by role, see `regression_figures`. ``differences``: of student against each
        other model the change of the absolute and of the squared error, below 0 where the student
        is better, by a paired bootstrap over examples. ``agreement``: how near the student is to
        the teacher, and (``control``) the baseline to it: what is shared without teaching.
        ``slices``: by name the same figures; changes there allow for the number of slices
        (Bonferroni). Plain data; what cannot be computed is None.

    Raises:
        DataError: Shapes differ, values are NaN or infinite, or there are no examples.

    Example:
        >>> truth = torch.tensor([0.0, 1.0, 2.0, 3.0])
        >>> found = evaluate_regression(truth, truth + 0.5, teacher=truth + 0.25)
        >>> found["models"]["student"]["mae"], found["differences"]["teacher"]["mae"]["mean"]
        (0.5, 0.25)
    """
    given = {"student": student, "teacher": teacher, "baseline": baseline}
    pairs = {
        role: checked_values(values, targets)
        for role, values in given.items()
        if values is not None
    }
    truth = pairs["student"][1]
    models = {role: values for role, (values, _) in pairs.items()}
    whole = torch.ones(len(truth), dtype=torch.bool)
    parts = dict(slices or {})
    strict = 1 - (1 - level) / max(1, len(parts))
    return {
        **_part(models, truth, whole, seed, level),
        "agreement": _agreement(models, "student", seed, level),
        "control": _agreement(models, "baseline", seed, level),
        "slices": {
            name: _part(models, truth, checked_slice(rows, len(truth), name), seed, strict)
            for name, rows in parts.items()
        },
    }


def checked_values(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both as ``(N,)`` of float64 on the CPU.

    Raises:
        DataError: They are not one number an example, or some are NaN or infinite.
    """
    values, targets = (
        t.detach().cpu().double().squeeze(-1) if t.ndim == 2 and t.shape[-1] == 1
        else t.detach().cpu().double()
        for t in (values, targets)
    )  # fmt: skip
    if values.shape != targets.shape or values.ndim != 1 or len(values) == 0:
        raise DataError(
            f"values of shape {tuple(values.shape)} and targets of shape {tuple(targets.shape)} "
            "were given: one number an example, (N,), is needed of both."
        )
    for what, tensor in (("values", values), ("targets", targets)):
        wrong = int((~tensor.isfinite()).sum())
        if wrong:
            raise DataError(
                f"{wrong} of {len(tensor)} {what} are NaN or infinite: nothing can be said of them."
            )
    return values, targets


def checked_slice(rows: Tensor, total: int, name: str) -> Tensor:
    """Which examples a slice holds, ``(N,)`` of bool on the CPU."""
    if rows.dtype != torch.bool or rows.shape != (total,):
        raise DataError(
            f"slice {name!r} is {tuple(rows.shape)} of {rows.dtype}: which of the {total} "
            "examples it holds is needed, (N,) of bool."
        )
    return rows.cpu()


def _part(
    models: Mapping[str, Tensor], truth: Tensor, rows: Tensor, seed: int, level: float
) -> dict[str, Any]:
    if not bool(rows.any()):
        return {"models": dict.fromkeys(models), "differences": {}}
    some, target = {role: values[rows] for role, values in models.items()}, truth[rows]
    errors = {role: values - target for role, values in some.items()}
    return {
        "models": {role: regression_figures(values, target) for role, values in some.items()},
        "differences": {
            role: _change(errors["student"], errors[role], seed, level)
            for role in some
            if role != "student"
        },
    }


def _change(student: Tensor, other: Tensor, seed: int, level: float) -> dict[str, Any]:
    kinds = {"mae": (student.abs(), other.abs()), "mse": (student.square(), other.square())}
    return {
        kind: paired_bootstrap(*pair, seed=seed, level=level).as_dict()
        for kind, pair in kinds.items()
    }


def _agreement(
    models: Mapping[str, Tensor], role: str, seed: int, level: float
) -> dict[str, Any] | None:
    """How near one model's answers are to the teacher's."""
    if "teacher" not in models or role not in models:
        return None
    one, teacher = models[role], models["teacher"]
    away = (one - teacher).abs()
    return {
        "mae": paired_bootstrap(away, torch.zeros_like(away), seed=seed, level=level).as_dict(),
        "rmse": root_mean_squared_error(one, teacher),
        "pearson": pearson(one, teacher),
    }
