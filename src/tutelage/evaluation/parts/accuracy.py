"""Accuracy beyond one number: top-k, mean over classes, worst class, groups, tests, seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.evaluation.faces.blocks import Block
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.regressions.luck import beyond_luck, luck
from tutelage.evaluation.standing.figures import (
    class_subsets,
    ends,
    group_subsets,
    over_seeds,
    paired_tests,
    rows_of,
)
from tutelage.evaluation.standing.macro import class_intervals, mean_of, within_top, worst_class
from tutelage.evaluation.standing.several import holm
from tutelage.evaluation.standing.tables import (
    between,
    chance,
    models_table,
    rows_table,
    seeds_table,
    tests_table,
)
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import NAMES, listing, percent, points, span

_NAMED = 4  # classes that a sentence lists


@register("part", "accuracy")
class Accuracy(AbstractPart):
    """How often the student is right, in every way that one number hides.

    Args:
        top: How many of its likeliest classes may hold the true one; those that are fewer than
            there are classes are shown.
    """

    title = "Accuracy in full"

    def __init__(self, top: Sequence[int] = (1, 3, 5)) -> None:
        if 1 not in top or min(top) < 1:
            raise RecipeError(f"top is {list(top)}: give whole numbers from 1 on, 1 among them.")
        self.top = tuple(sorted(set(top)))

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Shares with intervals by role, class and group; paired tests; seeds."""
        answers = {role: subjects.answers(role) for role in subjects.roles}
        student, level = answers["student"], subjects.level
        classes, targets = len(student.classes), student.targets
        ks = [k for k in self.top if k == 1 or k < classes]
        hits = {
            k: {role: within_top(one.logits, targets, k) for role, one in answers.items()}
            for k in ks
        }
        first = hits[1]
        others = [role for role in subjects.roles if role != "student"]
        groups = group_subsets(subjects)
        against = "teacher" if "teacher" in answers else "baseline"
        return {
            "examples": len(student),
            "classes": classes,
            "level": level,
            "top": {str(k): {role: _share(h, level) for role, h in hits[k].items()} for k in ks},
            "macro": {role: _macro(h, targets, classes, level) for role, h in first.items()},
            "worst_class": {
                role: _worst(h, targets, student.classes, level) for role, h in first.items()
            },
            "tests": [
                {
                    "against": role,
                    "k": k,
                    **paired_tests(
                        hits[k]["student"], hits[k][role], seed=subjects.seed, level=level
                    ),
                }
                for role in others
                for k in ks
            ],
            "per_class": _class_rows(subjects, first),
            "groups": {
                name: rows_of(
                    subsets, first, against, level=level, tests=sum(map(len, groups.values()))
                )
                for name, subsets in groups.items()
            },
            "groups_against": against if against in answers else None,
            "seeds": over_seeds(subjects, ks),
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """What teaching cost or gained, in which classes and groups, and how steady that is."""
        found = [*_taught(figures), *_classes(figures), *_groups(figures), _weakest(figures)]
        found += _steady(figures)
        order = ("warning", "notice", "fine")
        return sorted(found, key=lambda one: order.index(one.status))

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """Tables of all models, of the tests, of classes, groups and seeds."""
        return [
            models_table(figures),
            *tests_table(figures),
            *seeds_table(figures),
            *(
                rows_table(rows, f"By {name}", figures["groups_against"], figures)
                for name, rows in figures["groups"].items()
            ),
            rows_table(
                figures["per_class"], "Every class of every model", "baseline", figures, folded=True
            ),
        ]


def _class_rows(subjects: Subjects, hits: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    subsets, level = class_subsets(subjects.answers("student")), subjects.level
    rows = rows_of(subsets, hits, "baseline" if "baseline" in hits else None, level=level)
    chances = beyond_luck(luck(subjects), hits["student"], [subset.rows for subset in subsets])
    for row, p in zip(rows, holm(chances), strict=False):
        row["p_luck"], row["beyond_luck"] = p, p < 1 - level
    return rows


def _share(hits: Tensor, level: float) -> dict[str, float]:
    return ends(wilson(int(hits.sum()), len(hits), level=level))


def _macro(hits: Tensor, targets: Tensor, classes: int, level: float) -> dict[str, float]:
    found = mean_of(class_intervals(hits, targets, classes, level=level))
    assert found is not None, "there are examples, so there is a class"
    return ends(found)


def _worst(hits: Tensor, targets: Tensor, names: Sequence[str], level: float) -> dict[str, Any]:
    number, found = worst_class(hits, targets, len(names), level=level)
    return {"class": names[number], **ends(found)}


def _taught(figures: Mapping[str, Any]) -> list[Finding]:
    """Student and student alone, by McNemar's test."""
    for test in figures["tests"]:
        if test["against"] != "baseline" or test["k"] != 1:
            continue
        told = (
            f"{points(test['mean'])} points against the same student trained without a teacher "
            f"({100 * figures['level']:g} % interval {span(test)}; {test['only_first']:,} examples "
            f"only the student gets right, {test['only_second']:,} only the student alone; "
            f"McNemar's p {chance(test['p'])})"
        )
        lead = figures["seeds"].get("lead", {}).get("top_1")
        if lead is not None:
            told += f"; over all seeds {points(lead['mean'])} ({span(lead)})"
        if lead is not None and lead["high"] < 0:
            return [Finding("warning", f"On the same examples the student loses {told}.")]
        if lead is not None and lead["low"] > 0:
            return [Finding("fine", f"On the same examples the student gains {told}.")]
        if lead is None:
            told += "; one training each: luck of training is not covered"
        return [Finding("notice", f"On the same examples the shipped student stands at {told}.")]
    return []


def _classes(figures: Mapping[str, Any]) -> list[Finding]:
    worse = [r for r in figures["per_class"] if r.get("clear") and r["change"]["mean"] < 0]
    sure = [row for row in worse if row["beyond_luck"]]
    found = []
    if sure:
        found.append(
            Finding(
                "warning",
                f"The student alone is better in {_list(sure)}, beyond what trainings differ by "
                f"luck, after allowing for all {len(figures['per_class'])} classes.",
            )
        )
    if len(sure) < len(worse):
        others = _list([row for row in worse if not row["beyond_luck"]])
        found.append(
            Finding(
                "notice",
                f"The student alone is better in {others}; trainings of the same network differ by "
                "as much by luck.",
            )
        )
    return found


def _groups(figures: Mapping[str, Any]) -> list[Finding]:
    other = NAMES.get(figures["groups_against"] or "")
    found = []
    for name, rows in figures["groups"].items():
        worse = [row for row in rows if row.get("clear") and row["change"]["mean"] < 0]
        if worse:
            found.append(
                Finding(
                    "notice",
                    f"By {name}, accuracy was lost against the {other} in {_list(worse)}, beyond "
                    "chance after allowing for all groups.",
                )
            )
    return found


def _weakest(figures: Mapping[str, Any]) -> Finding:
    worst = figures["worst_class"]
    own = worst["student"]
    others = [
        f"the {NAMES[role]}'s is {worst[role]['class']} ({percent(worst[role]['mean'])})"
        for role in worst
        if role not in ("student", "control")
    ]
    also = f"; {', '.join(others)}" if others else ""
    return Finding(
        "notice",
        f"Its weakest class is {own['class']}: {percent(own['mean'])} right "
        f"({between(own)}, allowing for its having been picked){also}.",
    )


def _steady(figures: Mapping[str, Any]) -> list[Finding]:
    found = figures["seeds"].get("student")
    if found is None:
        return []
    top, worst = found["top_1"], found["worst_class"]
    return [
        Finding(
            "notice",
            f"Over {len(top['values'])} seeds the student reaches {percent(top['mean'])} on "
            f"average, from {percent(min(top['values']))} to {percent(max(top['values']))}; its "
            f"worst class from {percent(min(worst['values']))} to {percent(max(worst['values']))}.",
        )
    ]


def _list(rows: Sequence[Mapping[str, Any]]) -> str:
    rows = sorted(rows, key=lambda row: row["change"]["mean"])
    named = [f"{row['name']} ({points(row['change']['mean'])})" for row in rows[:_NAMED]]
    return listing(named + ([f"{len(rows) - _NAMED} more"] if len(rows) > _NAMED else []))
