"""One way of grouping, with all models side by side: the figures of the fairness part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.data.groups import Groups
from tutelage.evaluation.fairness.intervals import (
    Contrasts,
    contrasts,
    gap_change,
    gap_interval,
    newcombe_independent,
    resampled,
)
from tutelage.evaluation.fairness.rates import MEASURES, Tally, gap, support, tally
from tutelage.evaluation.intervals import newcombe, wilson
from tutelage.evaluation.predict import Predictions

Answered = Mapping[str, Predictions]
_SHOWN = 20  # classes up to which all rates are kept


@dataclass(frozen=True)
class Care:
    """How figures are made sure.

    Attributes:
        level: Confidence of one interval by itself.
        strict: Confidence that allows for all gaps that are looked at.
        drop: Confidence that allows for all groups.
        least: Examples that a rate must rest on to be compared.
        resamples: Draws of the bootstrap.
        seed: Of the draws.
    """

    level: float
    strict: float
    drop: float
    least: int
    resamples: int
    seed: int


def of_grouping(
    groups: Groups, answered: Answered, more: Mapping[str, Sequence[Predictions]], care: Care
) -> dict[str, Any] | None:
    """Everything about one way of grouping, as plain data; None where fewer than two groups are.

    Args:
        groups: The way.
        answered: Each role's answers to the same examples.
        more: Answers of further trainings, by role.
        care: How sure.
    """
    first = next(iter(answered.values()))
    numbers = groups.of(first.ids)
    if int((torch.bincount(numbers[numbers >= 0]) > 0).sum()) < 2:
        return None
    many = len(groups.names)
    counted = {role: tally(a.logits, a.targets, numbers, many) for role, a in answered.items()}
    seen = {
        measure: _contrasts(answered, counted, numbers, measure, draws, care)
        for draws in [_draws(answered, numbers, many, care)]
        for measure in MEASURES
    }
    return {
        "groups": _groups(groups.names, answered, counted, numbers, care),
        "unknown": int((numbers < 0).sum()),
        "few": _few(groups.names, first.classes, next(iter(counted.values())), care.least),
        "gaps": {
            measure: {
                role: gap_interval(one, level=care.strict).as_dict()
                | {"where": _where(one, measure, groups.names, first.classes)}
                for role, one in found.items()
            }
            for measure, found in seen.items()
        },
        "amplification": {
            measure: {
                role: gap_change(found["student"], found[role], level=care.strict).as_dict()
                for role in ("teacher", "baseline")
                if role in found
            }
            for measure, found in seen.items()
        },
        "seeds": {
            measure: {
                role: [
                    gap(
                        tally(a.logits, a.targets, groups.of(a.ids), many),
                        measure,
                        least=care.least,
                    )
                    for a in of
                ]
                for role, of in more.items()
            }
            for measure in MEASURES
        },
    }


def _draws(answered: Answered, numbers: Tensor, many: int, care: Care) -> dict[str, Tally]:
    first = next(iter(answered.values()))
    classes = first.logits.shape[1]
    # Contrasts grow with the square of groups: a bound on memory, not on exactness.
    enough = max(200, min(care.resamples, 20_000_000 // (2 * many * many * classes)))
    said = [each.logits.argmax(-1) for each in answered.values()]
    found = resampled(said, first.targets, numbers, many, classes, seed=care.seed, resamples=enough)
    return dict(zip(answered, found, strict=True))


def _contrasts(
    answered: Answered,
    counted: Mapping[str, Tally],
    numbers: Tensor,
    measure: str,
    draws: Mapping[str, Tally],
    care: Care,
) -> dict[str, Contrasts]:
    found = {
        role: contrasts(counted[role], draws[role], measure, least=care.least) for role in answered
    }
    return {role: one for role, one in found.items() if one is not None}


def _groups(
    names: Sequence[str],
    answered: Answered,
    counted: Mapping[str, Tally],
    numbers: Tensor,
    care: Care,
) -> list[dict[str, Any]]:
    """A row a group that has examples."""
    right = {role: a.logits.argmax(-1) == a.targets for role, a in answered.items()}
    rows = []
    for group, name in enumerate(names):
        mine = numbers == group
        total, others = int(mine.sum()), (numbers >= 0) & ~mine
        if not total:
            continue
        hits = {role: int(one[mine].sum()) for role, one in right.items()}
        student = right["student"]
        rest = newcombe_independent(
            hits["student"], total, int(student[others].sum()), int(others.sum()), level=care.level
        )
        row: dict[str, Any] = {
            "name": name,
            "examples": total,
            "accuracy": {
                role: wilson(hit, total, level=care.level).as_dict() for role, hit in hits.items()
            },
            "rest": rest.as_dict(),
            "drop": None,
        }
        if "teacher" in right:
            both = 2 * right["teacher"][mine].long() + student[mine].long()
            neither, two, one, kept = torch.bincount(both, minlength=4).tolist()
            row["drop"] = newcombe(kept, one, two, neither, level=care.drop).as_dict()
        if next(iter(counted.values())).true.shape[1] <= _SHOWN:
            row["rates"] = {
                role: {
                    kind: _plain(getattr(one, kind)[group]) for kind in ("selection", "tpr", "fpr")
                }
                for role, one in counted.items()
            }
        rows.append(row)
    return rows


def _few(
    names: Sequence[str], classes: Sequence[str], counted: Tally, least: int
) -> list[dict[str, Any]]:
    """Which rates rest on too few examples to be compared (those of empty groups aside)."""
    rests = support(counted, "odds")
    width = rests.shape[1] // 2
    return [
        {"group": names[group], "class": classes[_class(column, width, len(classes))]}
        | {"kind": "tpr" if column < width else "fpr", "examples": int(rests[group, column])}
        for group, column in (rests < least).nonzero().tolist()
        if counted.examples[group] > 0
    ]


def _where(
    one: Contrasts, measure: str, names: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Between whom the gap is, and in what."""
    place = one.widest
    column = int(one.column[place])
    found = {"more": names[int(one.first[place])], "less": names[int(one.second[place])]}
    if measure == "accuracy":
        return {**found, "kind": "accuracy", "class": None}
    width = 1 if len(classes) == 2 else len(classes)
    kind = "selection" if measure == "selection" else "tpr" if column < width else "fpr"
    return {**found, "kind": kind, "class": classes[_class(column, width, len(classes))]}


def _class(column: int, width: int, classes: int) -> int:
    """Number of the class of a column; of two classes the second alone has columns."""
    return 1 if classes == 2 else column % width


def _plain(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
