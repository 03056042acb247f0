"""What the part ``fidelity`` measures of the answers, as plain data."""

from typing import Any

import torch
from torch import Tensor

from tutelage.evaluation.fidelity import agreeing, js_each, kl_each, shared_errors
from tutelage.evaluation.intervals import (
    Interval,
    newcombe,
    paired_bootstrap,
    paired_interval,
    wilson,
)
from tutelage.evaluation.metrics import broken, right
from tutelage.evaluation.subjects import Subjects

FEWEST_SEEDS = 3
"""Of fewer trainings an interval says next to nothing."""


def beside_teacher(subjects: Subjects, role: str) -> dict[str, Any]:
    """How one learner answers, beside the teacher."""
    teacher, other = subjects.answers("teacher"), subjects.answers(role)
    a, b, level = teacher.logits, other.logits, subjects.level
    same, wrong = agreeing(a, b), ~right(a, teacher.targets)
    errors = shared_errors(a, b, teacher.targets)
    correct = int((~wrong).sum())
    return {
        "agreement": wilson(int(same.sum()), len(same), level=level).as_dict(),
        "kl": _mean(kl_each(a, b), subjects),
        "js": _mean(js_each(a, b), subjects),
        "where_teacher_right": int((same & ~wrong).sum()) / correct if correct else None,
        "teacher_errors": errors.examples,
        "copied_errors": errors.copied,
        "wrong_together": errors.both,
        "same_wrong_class": errors.alike,
    }


def _mean(each: Tensor, subjects: Subjects) -> dict[str, Any] | None:
    """A mean with its bootstrap interval; None where a class was ruled out that the other gives."""
    if not bool(each.isfinite().all()):
        return None
    nothing = torch.zeros_like(each)
    return paired_bootstrap(each, nothing, seed=subjects.seed, level=subjects.level).as_dict()


def taught(subjects: Subjects, untaught: str) -> dict[str, Any]:
    """The student's closeness to the teacher minus that of one that never saw it."""
    roles = ("teacher", "student", untaught)
    teacher, student, other = (subjects.answers(role) for role in roles)
    targets, level = teacher.targets, subjects.level
    with_it, without = (agreeing(teacher.logits, one.logits) for one in (student, other))
    wrong = ~right(teacher.logits, targets)
    divergences = [kl_each(teacher.logits, one.logits) for one in (student, other)]
    kl = None
    if all(bool(one.isfinite().all()) for one in divergences):
        kl = paired_bootstrap(*divergences, seed=subjects.seed, level=level).as_dict()
    return {
        "seeds": _over_seeds(subjects, untaught),
        "agreement": _difference(with_it, without, level),
        "kl": kl,
        "errors": _difference(with_it[wrong], without[wrong], level),
        "repeated": _difference(with_it & wrong, without & wrong, level),
        "rights": _difference(with_it[~wrong], without[~wrong], level),
        # Net: what luck alone moves to and fro is the same in both directions.
        "caught_errors": int((with_it & wrong).sum()) - int((without & wrong).sum()),
        "learnt_rights": int((with_it & ~wrong).sum()) - int((without & ~wrong).sum()),
    }


def _over_seeds(subjects: Subjects, untaught: str) -> dict[str, Any] | None:
    """The same over several trainings of both: the luck of training is in this interval."""
    teacher, pairs = subjects.answers("teacher"), []
    wrong = ~right(teacher.logits, teacher.targets)
    trained = [
        [subjects.answers(role), *subjects.seeds.get(role, ())] for role in ("student", untaught)
    ]
    for both in zip(*trained, strict=False):
        if not any(bool(broken(one.logits).any()) for one in both):
            pairs.append([agreeing(teacher.logits, one.logits).double() for one in both])
    if len(pairs) < FEWEST_SEEDS:
        return None

    def interval(chosen: Tensor) -> dict[str, Any] | None:
        if not bool(chosen.any()):
            return None
        first, second = ([pair[k][chosen].mean().item() for pair in pairs] for k in (0, 1))
        return paired_interval(first, second, level=subjects.level).as_dict()

    return {
        "count": len(pairs),
        "agreement": interval(torch.ones_like(wrong)),
        "errors": interval(wrong),
    }


def _difference(first: Tensor, second: Tensor, level: float) -> dict[str, Any] | None:
    if not len(first):
        return None
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    found: Interval = newcombe(*(int(count.sum()) for count in counts), level=level)
    return found.as_dict()
