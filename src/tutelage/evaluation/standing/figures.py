"""Right answers of several models side by side: in all, in subsets, over seeds, and their tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.evaluation.intervals import (
    Interval,
    mcnemar,
    mean_interval,
    newcombe,
    paired_bootstrap,
    paired_interval,
    wilson,
)
from tutelage.evaluation.predict import Predictions
from tutelage.evaluation.standing.macro import class_intervals, mean_of, within_top, worst_class
from tutelage.evaluation.standing.several import holm, strictly
from tutelage.evaluation.subjects import Subjects

Figures = dict[str, Any]


@dataclass(frozen=True)
class Subset:
    """Some of the examples, with a name."""

    name: str
    rows: Tensor


def class_subsets(answers: Predictions) -> list[Subset]:
    """The examples of each class that has any."""
    rows = [(answers.targets == number).nonzero()[:, 0] for number in range(len(answers.classes))]
    return [
        Subset(name, found) for name, found in zip(answers.classes, rows, strict=True) if len(found)
    ]


def group_subsets(subjects: Subjects) -> dict[str, list[Subset]]:
    """The test examples of each group that has any, by the name of the grouping."""
    found = {}
    for name, groups in subjects.groups.items():
        numbers = groups.of(subjects.answers("student").ids)
        rows = [(numbers == number).nonzero()[:, 0] for number in range(len(groups.names))]
        named = [Subset(of, r) for of, r in zip(groups.names, rows, strict=True) if len(r)]
        if named:
            found[name] = named
    return found


def change(first: Tensor, second: Tensor, *, level: float) -> Interval:
    """Accuracy of the first minus the second's on the same examples, each ``(N,)`` of bool."""
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return newcombe(*(int(count.sum()) for count in counts), level=level)


def paired_tests(first: Tensor, second: Tensor, *, seed: int, level: float) -> Figures:
    """Everything that two models' hits on the same examples say about which is better."""
    test = mcnemar(first, second)
    resampled = paired_bootstrap(first.double(), second.double(), seed=seed, level=level)
    return {
        **ends(change(first, second, level=level)),
        "bootstrap": ends(resampled),
        "only_first": test.only_first,
        "only_second": test.only_second,
        "p": test.p,
    }


def rows_of(
    subsets: Sequence[Subset],
    hits: Mapping[str, Tensor],
    against: str | None,
    *,
    level: float,
    tests: int | None = None,
) -> list[Figures]:
    """For each subset every role's accuracy, and the student's change against another role.

    Args:
        subsets: What to look at.
        hits: By role, which examples are right ``(N,)`` of bool.
        against: The other role; None for no comparison.
        level: Confidence; of the changes, of all together.
        tests: How many comparisons to allow for; as many as there are subsets by default.
    """
    rows: list[Figures] = []
    strict = strictly(level, tests or len(subsets))
    for subset in subsets:
        taken = {role: found[subset.rows] for role, found in hits.items()}
        many = len(subset.rows)
        row: Figures = {"name": subset.name, "examples": many}
        for role, found in taken.items():
            row[role] = ends(wilson(int(found.sum()), many, level=level))
        if against in taken:
            found, other = taken["student"], taken[against]
            row["change"] = ends(change(found, other, level=strict))
            row["p"] = mcnemar(found, other).p
        rows.append(row)
    if against in hits:
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = p
            row["clear"] = p < 1 - level
    return rows


def measures(answers: Predictions, ks: Sequence[int]) -> dict[str, float]:
    """Of one training: top-k shares, macro average, worst class."""
    classes = len(answers.classes)
    hits = within_top(answers.logits, answers.targets, 1)
    macro = mean_of(class_intervals(hits, answers.targets, classes))
    assert macro is not None, "there are examples, so there is a class"
    found = {
        f"top_{k}": within_top(answers.logits, answers.targets, k).double().mean().item()
        for k in ks
    }
    worst = worst_class(hits, answers.targets, classes)[1].mean
    return {**found, "macro": macro.mean, "worst_class": worst}


def over_seeds(subjects: Subjects, ks: Sequence[int]) -> Figures:
    """Means over seeds with t intervals, and the student's lead over the baseline seed by seed."""
    runs = {
        role: [measures(each, ks) for each in (subjects.answers(role), *subjects.seeds[role])]
        for role in ("student", "baseline")
        if role in subjects.models and subjects.seeds.get(role)
    }
    found: Figures = {}
    for role, each in runs.items():
        found[role] = {key: _spread([run[key] for run in each], subjects.level) for key in each[0]}
    pairs = list(zip(runs.get("student", ()), runs.get("baseline", ()), strict=False))
    if len(pairs) > 1 and len(runs["student"]) == len(runs["baseline"]):
        found["lead"] = {
            key: ends(
                paired_interval(
                    [one[key] for one, _ in pairs],
                    [other[key] for _, other in pairs],
                    level=subjects.level,
                )
            )
            for key in pairs[0][0]
        }
    return found


def ends(interval: Interval) -> Figures:
    """Figure and range, for JSON; confidence and method stand once in a part's figures."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _spread(values: Sequence[float], level: float) -> Figures:
    deviation = torch.tensor(values, dtype=torch.float64).std().item()
    interval = ends(mean_interval(values, level=level))
    return {**interval, "deviation": deviation, "values": list(values)}
