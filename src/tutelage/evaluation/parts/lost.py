"""What was lost, and what was gained: which examples, classes, mistakes and groups changed."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.evaluation.faces.blocks import Block, Exhibit, Gallery, Table, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.intervals import newcombe
from tutelage.evaluation.kept.changes import Moved, by_slice, confusions, moved
from tutelage.evaluation.kept.thumbnails import png, row_in_words
from tutelage.evaluation.metrics import right
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.roles import sound_roles, sure_span
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import listing, percent, points, span

_IDS = 1000
"""Of the examples that are named in the figures."""
_CONFUSIONS = 12


@register("part", "lost")
class Lost(AbstractPart):
    """The examples that the teacher gets right and the student wrong, and the other way round.

    Args:
        shown: Pictures (or rows) of the worst: right with the teacher, wrong with the student,
            those from whose true class most probability moved away first.
        gains: Pictures of what was gained.
        sure: From what probability on a model counts as sure.
    """

    title = "What was lost, and what was gained"
    gates: ClassVar[Mapping[str, Gate]] = {
        "lost_sure": Gate(
            "share right and sure with the teacher, wrong now",
            True,
            in_part("lost", "lost_sure_share"),
            "%",
            needs=("teacher",),
        ),
        "lost_in_a_class": Gate(
            "accuracy lost in one class beyond the others, at most any",
            True,
            in_part("lost", "worst_class", "more"),
            "points",
            needs=("teacher",),
        ),
    }

    def __init__(self, *, shown: int = 24, gains: int = 8, sure: float = 0.9):
        if not 0 <= shown <= 24 or not 0 <= gains <= 24:
            raise RecipeError(f"shown is {shown} and gains {gains}: give 0 to 24 of each.")
        if not 0 <= sure < 1:
            raise RecipeError(f"sure is {sure:g}: give a probability below 1, such as 0.9.")
        self.shown, self.gains, self.sure = shown, gains, sure

    def absent(self, subjects: Subjects) -> str | None:
        """Only what a teacher had can be lost."""
        return None if "teacher" in subjects.roles else "there is no teacher to compare with"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Counts, slices, confusions, ids, and the worst examples."""
        sound = sound_roles(subjects)
        if not {"teacher", "student"} <= set(sound):
            raise DataError("the answers of teacher or student are NaN or infinite")
        teacher, student = subjects.answers("teacher"), subjects.answers("student")
        targets, level, total = student.targets, subjects.level, len(student)
        was, now = right(teacher.logits, targets), right(student.logits, targets)
        found = moved(teacher, student)
        classes = by_slice(was, now, targets, student.classes, level=level)
        counts = (was & now, was & ~now, ~was & now, ~was & ~now)
        sure = int((found.before[found.lost] >= self.sure).sum())
        return {
            "examples": total,
            "lost": len(found.lost),
            "gained": len(found.gained),
            "drop": newcombe(*(int(count.sum()) for count in counts), level=level).as_dict(),
            "sure": self.sure,
            "lost_sure": sure,
            "lost_sure_share": sure / total,
            "surely_wrong": int((found.sure[found.lost] >= self.sure).sum()),
            "with_baseline": _alone(subjects, found.lost) if "baseline" in sound else None,
            "classes": classes,
            "worst_class": _worst(classes),
            "confusions": confusions(teacher, student, level=level, most=_CONFUSIONS),
            "groups": {
                name: by_slice(was, now, one.of(student.ids), one.names, level=level)
                for name, one in subjects.groups.items()
            },
            "lost_ids": student.ids[found.lost[:_IDS]].tolist(),
            "gained_ids": student.ids[found.gained[:_IDS]].tolist(),
            "worst": _examples(subjects, found, found.lost[: self.shown]),
            "best": _examples(subjects, found, found.gained[: self.gains]),
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """How much, and where more than elsewhere."""
        found = [
            Finding(
                "warning",
                f"The student lost more in {_kind(name)} {row['name']} than elsewhere: "
                f"{points(row['drop']['mean'], sign=False)} points of accuracy "
                f"({row['lost']:,} lost, {row['gained']:,} gained of {row['examples']:,}), "
                f"{points(row['more']['mean'], sign=False)} more than in all others "
                f"({span(row['more'])}, allowing for how many were looked at).",
            )
            for name, rows in {"": figures["classes"], **figures["groups"]}.items()
            for row in rows
            if row["clear"]
        ]
        return [*found, *_mistakes(figures["confusions"]), _total(figures)]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """Pictures of the worst, then tables."""
        alone, lost = figures["with_baseline"], figures["lost"]
        told = f"{_sure(figures)} {figures['surely_wrong']:,} of the lost are now answered wrongly "
        told += f"with at least {percent(figures['sure'], 0)} confidence."
        if alone is not None and lost:
            told += (
                f" The same student, trained without the teacher, gets {alone['lost_too']:,} of "
                f"these {lost:,} wrong as well: they are lost with the size, not by the teaching."
            )
        return [
            Words(told),
            *_shown(figures["worst"], "Lost: right with the teacher, wrong with the student"),
            *_shown(figures["best"], "Gained: wrong with the teacher, right with the student"),
            _confused(figures["confusions"]),
            _slices(figures["classes"], "class"),
            *(_slices(rows, name) for name, rows in figures["groups"].items() if rows),
        ]


def _alone(subjects: Subjects, lost: Tensor) -> dict[str, int]:
    answers = subjects.answers("baseline")
    wrong = ~right(answers.logits, answers.targets)
    return {"lost_too": int(wrong[lost].sum())}


def _worst(classes: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    known = [row for row in classes if row["more"] is not None]
    return dict(max(known, key=lambda row: row["more"]["mean"])) if known else None


def _examples(subjects: Subjects, found: Moved, rows: Tensor) -> list[dict[str, Any]]:
    """What is shown of these examples, and what was said of them."""
    student = subjects.answers("student")
    teacher = subjects.answers("teacher").logits.argmax(-1)
    looks = _looks(subjects, rows)
    return [
        {
            "id": int(student.ids[row]),
            "true": str(student.classes[int(student.targets[row])]),
            "teacher": str(student.classes[int(teacher[row])]),
            "student": str(student.classes[int(found.said[row])]),
            "teacher_true": found.before[row].item(),
            "student_true": (found.before[row] - found.mass[row]).item(),
            "sure": found.sure[row].item(),
            **look,
        }
        for row, look in zip(rows.tolist(), looks, strict=True)
    ]


def _looks(subjects: Subjects, rows: Tensor) -> list[dict[str, str]]:
    if not len(rows):
        return []
    inputs = subjects.test.batch(rows).inputs
    if not isinstance(inputs, Tensor):
        return [{"words": ""} for _ in rows]
    if subjects.images:
        return [{"png": png(image)} for image in inputs]
    some = subjects.test.batch(torch.arange(min(len(subjects.test), 5000))).inputs
    assert isinstance(some, Tensor)
    values = some.double()
    mean, deviation = values.mean(0), values.std(0, correction=0)
    return [{"words": row_in_words(row, mean, deviation)} for row in inputs]


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """One sentence on the mistakes that are shown to be made more often."""
    clear = [row for row in rows if row["clear"]]
    if not clear:
        return []
    first = [
        f"{row['true']} for {row['answered']} "
        f"({row['after']:,} times, the teacher {row['before']:,})"
        for row in clear[:3]
    ]
    more = f", and {len(clear) - 3} more kinds that the table lists" if len(clear) > 3 else ""
    return [Finding("notice", f"The student more often mistakes {listing(first)}{more}.")]


def _total(figures: Mapping[str, Any]) -> Finding:
    drop, lost, gained = figures["drop"], figures["lost"], figures["gained"]
    counts = (
        f"{lost:,} of {figures['examples']:,} test examples that the teacher got right are wrong "
        f"with the student, and {gained:,} that it got wrong are right"
    )
    if drop["low"] > 0:
        change = f"{points(drop['mean'], sign=False)} points lost in all ({sure_span(drop)})"
        return Finding("notice", f"{counts}: {change}. {_sure(figures)}")
    if drop["high"] < 0:
        change = f"{points(-drop['mean'], sign=False)} points gained in all"
        return Finding("fine", f"{counts}: {change}.")
    return Finding(
        "fine", f"{counts}: no more is shown to be lost than gained ({sure_span(drop)})."
    )


def _sure(figures: Mapping[str, Any]) -> str:
    return (
        f"In {figures['lost_sure']:,} of the lost the teacher was at least "
        f"{percent(figures['sure'], 0)} sure."
    )


def _kind(name: str) -> str:
    return f"the group ({name})" if name else "the class"


def _shown(examples: Sequence[Mapping[str, Any]], caption: str) -> list[Block]:
    if not examples:
        return []
    if "png" in examples[0]:
        exhibits = tuple(Exhibit(one["png"], _said(one)) for one in examples)
        return [Gallery(exhibits, f"{caption}; most probability moved first")]
    heads = ("Id", "True", "Teacher", "Student", "True class, teacher → student", "Stands out by")
    rows = tuple(
        (str(one["id"]), one["true"], one["teacher"], one["student"], _mass(one), one["words"])
        for one in examples
    )
    return [Table(heads, rows, f"{caption}; most probability moved first")]


def _said(one: Mapping[str, Any]) -> str:
    lost = one["student"] != one["true"]
    taken = f"now taken for {one['student']}" if lost else f"was taken for {one['teacher']}"
    return f"{one['true']}, {taken}; truth {_mass(one)} (id {one['id']})"


def _mass(one: Mapping[str, Any]) -> str:
    return f"{percent(one['teacher_true'], 0)} → {percent(one['student_true'], 0)}"


def _confused(rows: Sequence[Mapping[str, Any]]) -> Block:
    if not rows:
        return Words("No mistake is made more often by the student than by the teacher.")
    cells = tuple(
        (
            f"{row['true']} → {row['answered']}",
            str(row["before"]),
            str(row["after"]),
            f"{row['p']:.2g}{' (clear)' if row['clear'] else ''}",
        )
        for row in rows
    )
    heads = ("True → answered", "Teacher", "Student", "p, allowing for all mistakes")
    return Table(heads, cells, "Mistakes that the student makes more often")


def _slices(rows: Sequence[Mapping[str, Any]], name: str) -> Block:
    cells = tuple(
        (
            row["name"],
            f"{row['examples']:,}",
            f"{row['lost']:,}",
            f"{row['gained']:,}",
            f"{points(-row['drop']['mean'])}",
            "–" if row["more"] is None else f"{span(row['more'])}{' ▲' if row['clear'] else ''}",
        )
        for row in sorted(rows, key=lambda row: -row["drop"]["mean"])
    )
    heads = (name.capitalize(), "Examples", "Lost", "Gained", "Change, points", "Beyond others")
    return Table(
        heads,
        cells,
        f"Lost and gained by {name}, and the loss beyond that of all others",
        folded=len(cells) > 12,
    )
