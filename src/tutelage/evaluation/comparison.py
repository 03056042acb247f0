"""Student beside teacher and baseline on the same examples: what changed, and how surely."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation import fidelity
from tutelage.evaluation.intervals import (
    Interval,
    mcnemar,
    newcombe,
    paired_bootstrap,
    paired_interval,
    per_class_delta,
)
from tutelage.evaluation.metrics import broken, per_class_accuracy, right
from tutelage.evaluation.predict import Predictions

_CONFUSIONS = 8
_FIDELITY = (
    "agreement",
    "predictive_kl",
    "jensen_shannon",
    "negative_flip_rate",
    "positive_flip_rate",
)


@dataclass(frozen=True)
class SeedResult:
    """Test accuracy of one seed's student, and of its baseline where one was trained.

    None where there is none: no baseline, or answers that are NaN.
    """

    seed: int
    student: float | None
    baseline: float | None = None


def comparable(arms: Sequence[Predictions]) -> None:
    """Refuse predictions that were not made on the same examples in the same order."""
    first = arms[0]
    for other in arms[1:]:
        if first.classes != other.classes:
            raise DataError(
                f"predictions over the classes {first.classes[:3]}... and {other.classes[:3]}... "
                "were given: put all models' logits in the data's order of classes."
            )
        if not torch.equal(first.ids, other.ids) or not torch.equal(first.targets, other.targets):
            raise DataError(
                f"predictions on {len(first)} and {len(other)} examples were given that are not "
                "the same in the same order: predict one and the same data set with all models."
            )


def compare(
    teacher: Predictions | None,
    student: Predictions,
    baseline: Predictions | None,
    *,
    seeds: Sequence[SeedResult] = (),
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """The ``comparison`` of a report.

    Figures that broken logits, or a teacher who is not there, do not allow are None.
    """
    arms = (teacher, student, baseline)
    whole = all(_sound(arm) for arm in arms if arm is not None)
    empty = (*_FIDELITY, "accuracy_change", "control", "baseline", "mcnemar")
    found: dict[str, Any] = dict.fromkeys(empty)
    found |= {"per_class": [], "confusions": []}
    if teacher is not None and _sound(teacher) and _sound(student):
        found |= _fidelity(teacher, student) | {
            "accuracy_change": _change(student, teacher, level).as_dict(),
            "confusions": _new_confusions(teacher, student),
        }
    if whole:
        found["per_class"] = _per_class(teacher, student, baseline, level)
    if whole and teacher is not None and baseline is not None:
        # What two networks share without teaching: agreement means little without it.
        found["control"] = _fidelity(teacher, baseline)
    if baseline is not None and _sound(student) and _sound(baseline):
        test = mcnemar(*_rights(student, baseline))
        found["baseline"] = _fidelity(baseline, student) | {
            "accuracy_change": _change(student, baseline, level).as_dict()
        }
        found["mcnemar"] = {
            "p": test.p,
            "only_student_right": test.only_first,
            "only_baseline_right": test.only_second,
        }
    found["seeds"] = [asdict(result) for result in seeds]
    found["gain"] = _gain(student, baseline, seeds, seed, level)
    return found


def _gain(
    student: Predictions,
    baseline: Predictions | None,
    seeds: Sequence[SeedResult],
    seed: int,
    level: float,
) -> dict[str, Any] | None:
    pairs = [
        (s.student, s.baseline) for s in seeds if s.student is not None and s.baseline is not None
    ]
    if len(pairs) >= 2:
        gain = paired_interval([a for a, _ in pairs], [b for _, b in pairs], level=level)
        return {**gain.as_dict(), "seeds": len(pairs)}
    if baseline is None or not (_sound(student) and _sound(baseline)):
        return None
    with_teacher, alone = _rights(student, baseline)
    gain = paired_bootstrap(with_teacher.double(), alone.double(), seed=seed, level=level)
    return {**gain.as_dict(), "seeds": 1}


def _fidelity(reference: Predictions, other: Predictions) -> dict[str, float]:
    a, b, targets = reference.logits, other.logits, reference.targets
    return {
        "agreement": fidelity.agreement(a, b),
        "predictive_kl": fidelity.predictive_kl(a, b),
        "jensen_shannon": fidelity.jensen_shannon(a, b),
        "negative_flip_rate": fidelity.negative_flip_rate(a, b, targets),
        "positive_flip_rate": fidelity.positive_flip_rate(a, b, targets),
    }


def _change(first: Predictions, second: Predictions, level: float) -> Interval:
    a, b = _rights(first, second)
    counts = (a & b, a & ~b, ~a & b, ~a & ~b)
    return newcombe(*(int(count.sum()) for count in counts), level=level)


def _per_class(
    teacher: Predictions | None, student: Predictions, baseline: Predictions | None, level: float
) -> list[dict[str, Any]]:
    targets, classes = student.targets, student.classes
    deltas, strict = _class_deltas(teacher, student, level)
    counts = torch.bincount(targets, minlength=len(classes)).tolist()
    shares = {
        "teacher": _class_shares(teacher, len(classes)),
        "student": _class_shares(student, len(classes)),
        "baseline": _class_shares(baseline, len(classes)),
    }
    return [
        {
            "class": name,
            "examples": counts[c],
            **{role: found[c] for role, found in shares.items()},
            "delta": None if (delta := deltas[c]) is None else delta.mean,
            "low": None if delta is None else delta.low,
            "high": None if delta is None else delta.high,
            "clear": (sure := strict[c]) is not None and sure.excludes_zero,
        }
        for c, name in enumerate(classes)
    ]


def _class_deltas(
    teacher: Predictions | None, student: Predictions, level: float
) -> tuple[list[Interval | None], list[Interval | None]]:
    """The change of each class; and at a level that allows for how many there are."""
    total = len(student.classes)
    if teacher is None:
        return [None] * total, [None] * total
    # Ten looks at 95 % show something by chance in two reports of five: what is called clear
    # allows for the number of classes (Bonferroni).
    plain, strict = (
        per_class_delta(*_rights(student, teacher), student.targets, total, level=asked)
        for asked in (level, 1 - (1 - level) / total)
    )
    return plain, strict


def _class_shares(arm: Predictions | None, classes: int) -> list[float | None]:
    if arm is None:
        return [None] * classes
    found: list[float] = per_class_accuracy(arm.logits, arm.targets).tolist()
    return [share if share == share else None for share in found]  # NaN: no such example


def _new_confusions(teacher: Predictions, student: Predictions) -> list[dict[str, Any]]:
    """Pairs (true class, answered class) that the student mixes up more often than the teacher."""
    classes = student.classes
    before, after = _confusion(teacher), _confusion(student)
    more = (after - before).flatten()
    return [
        {
            "true": classes[place // len(classes)],
            "answered": classes[place % len(classes)],
            "student": int(after.flatten()[place]),
            "teacher": int(before.flatten()[place]),
        }
        for place in more.argsort(descending=True, stable=True)[:_CONFUSIONS].tolist()
        if more[place] > 0
    ]


def _confusion(arm: Predictions) -> Tensor:
    """Mistakes only, ``(true, answered)``."""
    size = len(arm.classes)
    cells = arm.targets * size + arm.logits.argmax(-1)
    return torch.bincount(cells, minlength=size * size).view(size, size).fill_diagonal_(0)


def _rights(first: Predictions, second: Predictions) -> tuple[Tensor, Tensor]:
    return right(first.logits, first.targets), right(second.logits, second.targets)


def _sound(arm: Predictions) -> bool:
    return not bool(broken(arm.logits).any())
