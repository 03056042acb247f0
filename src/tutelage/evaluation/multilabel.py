"""Figures of models that may give an example several labels at once, or none.

Scores are logits: a label is given where its logit is above 0 (a probability above one half).
Everything is computed in float64. NaN scores are refused.
"""

from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import Interval, newcombe, paired_bootstrap, wilson


def average_precision(scores: Tensor, targets: Tensor) -> float | None:
    """Area under precision over recall of one label, as a sum over thresholds.

    ``Σ (R_k − R_{k−1}) P_k`` over the distinct scores from the highest down; examples of the same
    score are taken in together. None where no example has the label.

    Args:
        scores: ``(N,)``, higher for likelier.
        targets: ``(N,)`` of 0 and 1.

    Example:
        >>> average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1, 0, 1]))
        0.833333...
    """
    scores, targets = scores.detach().cpu().double(), targets.detach().cpu()
    positives = int(targets.sum())
    if positives == 0:
        return None
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], targets[order].double().cumsum(0)
    last = torch.ones(len(ranked), dtype=torch.bool)
    last[:-1] = ranked[1:] != ranked[:-1]  # of each group of ties
    taken = (torch.arange(len(ranked), dtype=torch.float64) + 1)[last]
    precision, recall = hits[last] / taken, hits[last] / positives
    steps = torch.diff(recall, prepend=torch.zeros(1, dtype=torch.float64))
    return (steps * precision).sum().item()


def f1_scores(given: Tensor, targets: Tensor) -> Tensor:
    """``2 TP / (2 TP + FP + FN)`` of each label ``(L,)``; 0 where nobody has or gets it.

    Args:
        given: Which labels were given, ``(N, L)`` of bool.
        targets: Which are right, ``(N, L)`` of bool.
    """
    hits, wrong = (given & targets).sum(0).double(), (given ^ targets).sum(0).double()
    whole = 2 * hits + wrong
    return torch.where(whole > 0, 2 * hits / whole.clamp(min=1), torch.zeros_like(whole))


def multilabel_figures(scores: Tensor, targets: Tensor) -> dict[str, Any]:
    """Figures of one model.

    Args:
        scores: Logits ``(N, L)``.
        targets: ``(N, L)`` of 0 and 1.

    Returns:
        ``macro_f1`` (mean over labels; 0 for one that nobody has or gets, as scikit-learn has it),
        ``micro_f1`` (over all answers together), ``mean_average_precision`` (over the labels that
        some example has; None where there are none), ``subset_accuracy`` (every label of the
        example right), ``label_accuracy`` (share of all answers that are right), ``labels_absent``
        (how many no example has).

    Example:
        >>> found = multilabel_figures(torch.tensor([[2.0, -1.0], [1.0, 1.0]]),
        ...                            torch.tensor([[1, 0], [0, 1]]))
        >>> found["subset_accuracy"], found["micro_f1"]
        (0.5, 0.8)
    """
    scores, truth = checked_scores(scores, targets)
    given = scores > 0
    hits, wrong = int((given & truth).sum()), int((given ^ truth).sum())
    areas = [average_precision(scores[:, i], truth[:, i]) for i in range(truth.shape[1])]
    known = [area for area in areas if area is not None]
    return {
        "examples": len(truth),
        "macro_f1": f1_scores(given, truth).mean().item(),
        "micro_f1": 2 * hits / (2 * hits + wrong) if hits + wrong else 0.0,
        "mean_average_precision": sum(known) / len(known) if known else None,
        "subset_accuracy": (given == truth).all(1).double().mean().item(),
        "label_accuracy": (given == truth).double().mean().item(),
        "labels_absent": len(areas) - len(known),
    }


def evaluate_multilabel(
    targets: Tensor,
    student: Tensor,
    teacher: Tensor | None = None,
    baseline: Tensor | None = None,
    *,
    labels: tuple[str, ...] = (),
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """A report's figures for models that answer with several labels.

    Args:
        targets: ``(N, L)`` of 0 and 1.
        student: Its logits ``(N, L)``.
        teacher: Likewise; None where there is none.
        baseline: Of the same student trained without a teacher; None where there is none.
        labels: Names of the L labels; their numbers by default.
        seed: Of the bootstrap.
        level: Confidence of all intervals.

    Returns:
        ``models``: by role, see `multilabel_figures`. ``differences``: student minus each other
        model: ``subset_accuracy`` by Newcombe's paired interval, ``label_accuracy`` by a paired
        bootstrap over examples. ``labels``: of each its examples, every model's accuracy with
        Wilson's interval, F1 and average precision, and the change against the teacher, clear
        where chance is ruled out after allowing for the number of labels (Bonferroni).
        ``agreement``: share of answers and of whole examples given as the teacher does;
        ``control``: the same of the baseline. Plain data; what cannot be computed is None.

    Raises:
        DataError: Shapes differ, scores are NaN, or targets are not 0 and 1.

    Example:
        >>> truth = torch.tensor([[1, 0], [0, 1], [1, 1]])
        >>> found = evaluate_multilabel(truth, 2.0 * truth - 1, labels=("cat", "dog"))
        >>> found["models"]["student"]["macro_f1"], found["labels"][1]["label"]
        (1.0, 'dog')
    """
    given = {"student": student, "teacher": teacher, "baseline": baseline}
    scores = {
        role: checked_scores(each, targets)[0] for role, each in given.items() if each is not None
    }
    truth = checked_scores(student, targets)[1]
    names = labels or tuple(str(number) for number in range(truth.shape[1]))
    if len(names) != truth.shape[1]:
        raise DataError(
            f"{len(names)} names were given for {truth.shape[1]} labels: give one for each."
        )
    return {
        "models": {role: multilabel_figures(each, truth) for role, each in scores.items()},
        "differences": {
            role: _difference(scores["student"], each, truth, seed, level)
            for role, each in scores.items()
            if role != "student"
        },
        "labels": [_label(scores, truth, i, name, level) for i, name in enumerate(names)],
        "agreement": _agreement(scores, "student"),
        "control": _agreement(scores, "baseline"),
    }


def checked_scores(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of float64 and targets of bool, ``(N, L)`` on the CPU.

    Raises:
        DataError: Shapes differ, scores are NaN, or targets are not 0 and 1.
    """
    scores, targets = scores.detach().cpu().double(), targets.detach().cpu()
    if scores.shape != targets.shape or scores.ndim != 2 or scores.numel() == 0:
        raise DataError(
            f"scores of shape {tuple(scores.shape)} and targets of shape {tuple(targets.shape)} "
            "were given: one number for each example and label, (N, L), is needed of both."
        )
    wrong = int(scores.isnan().any(1).sum())
    if wrong:
        raise DataError(f"the scores of {wrong} of {len(scores)} examples are NaN.")
    if not bool(((targets == 0) | (targets == 1)).all()):
        raise DataError("targets other than 0 and 1 were given: 1 where the example has the label.")
    return scores, targets.bool()


def _difference(
    student: Tensor, other: Tensor, truth: Tensor, seed: int, level: float
) -> dict[str, Any]:
    mine, theirs = (student > 0) == truth, (other > 0) == truth
    shares = (each.double().mean(1) for each in (mine, theirs))
    return {
        "subset_accuracy": _paired(mine.all(1), theirs.all(1), level).as_dict(),
        "label_accuracy": paired_bootstrap(*shares, seed=seed, level=level).as_dict(),
    }


def _label(
    scores: dict[str, Tensor], truth: Tensor, number: int, name: str, level: float
) -> dict[str, Any]:
    target = truth[:, number]
    models, rights = {}, {}
    for role, each in scores.items():
        given = each[:, number] > 0
        rights[role] = given == target
        models[role] = {
            "accuracy": wilson(int(rights[role].sum()), len(target), level=level).as_dict(),
            "f1": f1_scores(given[:, None], target[:, None]).item(),
            "average_precision": average_precision(each[:, number], target),
        }
    change = clear = None
    if "teacher" in scores:
        pair = rights["student"], rights["teacher"]
        change = _paired(*pair, level).as_dict()
        clear = _paired(*pair, 1 - (1 - level) / truth.shape[1]).excludes_zero
    return {
        "label": name,
        "positives": int(target.sum()),
        "models": models,
        "change": change,
        "clear": clear,
    }


def _paired(first: Tensor, second: Tensor, level: float) -> Interval:
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return newcombe(*(int(count.sum()) for count in counts), level=level)


def _agreement(scores: dict[str, Tensor], role: str) -> dict[str, float] | None:
    if "teacher" not in scores or role not in scores:
        return None
    same = (scores[role] > 0) == (scores["teacher"] > 0)
    return {"labels": same.double().mean().item(), "examples": same.all(1).double().mean().item()}
