"""Silent regressions: what was right with the teacher and is wrong with the student."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.evaluation.faces.blocks import Block, Picture, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.intervals import Interval, wilson
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.regressions.damage import damage, surest, worst
from tutelage.evaluation.regressions.flips import Flips as Changes
from tutelage.evaluation.regressions.flips import flip_ratio, flip_ratio_over_seeds, flips
from tutelage.evaluation.regressions.luck import luck
from tutelage.evaluation.regressions.plots import flip_rates
from tutelage.evaluation.regressions.tables import places_table, runs_table, surest_table
from tutelage.evaluation.standing.figures import class_subsets, ends, group_subsets
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import listing, percent, times

_NAMED = 4  # classes or groups that a sentence lists


@register("part", "flips")
class Flips(AbstractPart):
    """Negative flips, against those of an independently trained student, by class and by group.

    Args:
        shown: Of the negative flips, how many are listed: those the student is surest of.
    """

    title = "Silent regressions"
    gates: ClassVar[Mapping[str, Gate]] = {
        "relative_negative_flips": Gate(
            "negative flips as a multiple of an independent retrain's",
            True,
            in_part("flips", "ratio"),
            "×",
            needs=("baseline", "teacher"),
        ),
        "worst_class_flips": Gate(
            "share of any one class that became wrong",
            True,
            in_part("flips", "worst_class"),
            "%",
            needs=("teacher",),
        ),
        "worst_group_flips": Gate(
            "share of any one group that became wrong",
            True,
            in_part("flips", "worst_group"),
            "%",
            needs=("teacher",),
        ),
    }

    def __init__(self, shown: int = 10) -> None:
        if shown < 0:
            raise RecipeError(f"shown is {shown}: give a number of examples, 0 or more.")
        self.shown = shown

    def absent(self, subjects: Subjects) -> str | None:
        """There must be somebody to compare with."""
        return None if "teacher" in subjects.roles else "there is no teacher to compare with"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Rates with intervals, the ratio to retrains, classes and groups, and the surest flips."""
        teacher, level = subjects.answers("teacher"), subjects.level
        runs = {
            role: [flips(teacher, one) for one in _runs(subjects, role)]
            for role in ("student", "baseline")
        }
        student = runs["student"][0]
        alone = runs["baseline"][0] if runs["baseline"] else None
        known = luck(subjects)
        classes = damage(class_subsets(teacher), student, alone, known, level=level)
        groups = {
            name: damage(subsets, student, alone, known, level=level)
            for name, subsets in group_subsets(subjects).items()
        }
        every = [
            {**row, "name": f"{name} {row['name']}"}
            for name, rows in groups.items()
            for row in rows
        ]
        return {
            "examples": len(teacher),
            "level": level,
            "negative": _rate(student.negative, level),
            "positive": _rate(student.positive, level),
            "runs": {
                role: [
                    {
                        "negative": one.rate,
                        "positive": one.positive.double().mean().item(),
                        "relative": one.relative,
                    }
                    for one in each
                ]
                for role, each in runs.items()
            },
            "between_seeds": _between(subjects),
            **_ratios(runs, level, len(teacher)),
            "classes": classes,
            "groups": groups,
            "worst_class": worst(classes, level=level),
            "worst_group": worst(every, level=level),
            "surest": surest(student, teacher, subjects.answers("student"), self.shown),
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Where the student is worse than an independent one, then how many flips there are."""
        found = _places(figures["classes"], "class", "classes")
        for name, rows in figures["groups"].items():
            found += _places(rows, f"{name} group", f"{name} groups")
        found += _compared(figures)
        order = ("warning", "notice", "fine")
        return sorted([*found, _counted(figures)], key=lambda one: order.index(one.status))

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """What a flip is; rates of all runs; by class and group; the surest."""
        told = (
            "A negative flip is an example that the teacher got right and the student gets wrong. "
            "Users notice these, even where accuracy is the same. Any two networks trained apart "
            "differ in some examples: so they stand beside those of the student alone. “Relative” "
            "is the share of negative flips divided by what two models whose errors have nothing "
            "in common would show: below 1, both err on the same examples."
        )
        caption = (
            "Share of each class that became wrong; filled where more became wrong than right, "
            "beyond chance."
        )
        return [
            Words(told),
            runs_table(figures),
            Picture(flip_rates(figures["classes"]), caption),
            *(places_table(rows, f"By {name}") for name, rows in figures["groups"].items()),
            places_table(figures["classes"], "All classes", folded=True),
            *surest_table(figures["surest"]),
        ]


def _runs(subjects: Subjects, role: str) -> list[Any]:
    if role not in subjects.models:
        return []
    return [subjects.answers(role), *subjects.seeds.get(role, ())]


def _rate(hits: torch.Tensor, level: float) -> dict[str, Any]:
    return {"count": int(hits.sum()), **ends(wilson(int(hits.sum()), len(hits), level=level))}


def _between(subjects: Subjects) -> list[float]:
    """Negative flips of one seed's student against another's: what training again alone costs."""
    first, *others = _runs(subjects, "student")
    return [flips(first, other).rate for other in others]


def _ratios(runs: Mapping[str, list[Changes]], level: float, many: int) -> dict[str, Any]:
    """The student's flips over the retrains': over seeds where there are enough of them."""
    students, retrains = runs["student"], runs["baseline"]
    if not retrains:
        return {"ratio": None, "ratio_examples": None}
    examples = flip_ratio(
        students[0].negative, torch.stack([one.negative for one in retrains]), level=level
    )
    over = flip_ratio_over_seeds(
        [one.rate for one in students], [one.rate for one in retrains], level=level
    )
    kept = _plain(examples, many, "test examples")
    if over is None:
        return {"ratio": kept, "ratio_examples": kept}
    pairs = min(len(students), len(retrains))
    return {"ratio": _plain(over, pairs, "seeds"), "ratio_examples": kept}


def _plain(found: Interval, many: int, of: str) -> dict[str, Any]:
    return {**found.as_dict(), "examples": many, "of": of}


def _counted(figures: Mapping[str, Any]) -> Finding:
    negative, positive = figures["negative"], figures["positive"]
    ends = f"{100 * negative['low']:.1f} to {percent(negative['high'])}"
    return Finding(
        "notice",
        f"{negative['count']:,} of {figures['examples']:,} examples ({percent(negative['mean'])}, "
        f"{100 * figures['level']:g} % interval {ends}) were right with the teacher and are wrong "
        f"with the student; {positive['count']:,} ({percent(positive['mean'])}) became right.",
    )


def _compared(figures: Mapping[str, Any]) -> list[Finding]:
    ratio = figures["ratio"]
    if ratio is None:
        return []
    over = "seeds" if ratio["of"] == "seeds" else "test examples"
    told = (
        f"{times(ratio['mean'])} times as many negative flips as the same student trained without "
        f"the teacher ({100 * figures['level']:g} % interval {times(ratio['low'])} to "
        f"{times(ratio['high'])}, over {ratio['examples']:,} {over})"
    )
    if over != "seeds":
        luck = "this one training may be lucky or not: only several seeds would tell"
        if ratio["low"] > 1:
            return [
                Finding("notice", f"This student breaks more than its retrain: {told}; {luck}.")
            ]
        if ratio["high"] < 1:
            return [
                Finding("notice", f"This student breaks less than its retrain: {told}; {luck}.")
            ]
    elif ratio["low"] > 1:
        return [Finding("warning", f"Students with a teacher break more than without: {told}.")]
    elif ratio["high"] < 1:
        return [Finding("fine", f"Teaching kept what the teacher gets right: {told}.")]
    return [Finding("notice", f"That teaching avoids or adds regressions is not shown: {told}.")]


def _places(rows: Sequence[Mapping[str, Any]], one: str, several: str) -> list[Finding]:
    """Classes or groups where more became wrong than right; a warning where teaching did it."""
    worse = sorted((r for r in rows if r["worse"]), key=lambda row: -row["share"]["mean"])
    own = [row for row in worse if row["beyond"] is not False]
    shared = [row for row in worse if row["beyond"] is False]
    found = []
    if own:
        alone = own[0]["baseline"] is not None
        more = ", and more than the luck of training explains" if alone else ""
        which = one if len(own) == 1 else several
        found.append(
            Finding(
                "warning",
                f"Silent regression in the {which} {_list(own)}: more became wrong than right, "
                f"beyond chance after allowing for all {len(rows)}{more}.",
            )
        )
    if shared:
        which = one if len(shared) == 1 else several
        found.append(
            Finding(
                "notice",
                f"In the {which} {_list(shared)} more became wrong than right, beyond chance; but "
                "no more than trainings without a teacher may differ from each other by luck.",
            )
        )
    return found


def _list(rows: Sequence[Mapping[str, Any]]) -> str:
    named = [
        f"{row['name']} ({row['negative']:,} of {row['examples']:,} became wrong, "
        f"{row['positive']:,} right)"
        for row in rows[:_NAMED]
    ]
    return listing(named + ([f"{len(rows) - _NAMED} more"] if len(rows) > _NAMED else []))
