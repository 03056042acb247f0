"""Slices: groups, their intersections, and unnamed corners of the data that got worse."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.core.seeds import generator
from tutelage.data.sets import Examples
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.metrics import right
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.regressions.luck import Luck, Scale, luck, scale
from tutelage.evaluation.regressions.plots import slice_drops
from tutelage.evaluation.slices.confirming import (
    Rights,
    confirmed,
    described_slice,
    excess_z,
    visible,
)
from tutelage.evaluation.slices.describing import described
from tutelage.evaluation.slices.proposing import (
    Slice,
    class_slices,
    cluster_slices,
    given_slices,
    halves,
    measured_slices,
    shortlist,
)
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import points, span

_FEATURES = 64  # random directions of the inputs that stand for features where there are none


@register("part", "slices")
class Slices(AbstractPart):
    """Slices of the examples in which the student lost more than elsewhere.

    Given ones are the groups and what any two of them share. Others are proposed on one half of
    the test examples, by class, by simple measures (brightness, contrast, detail; of tables the
    columns) and by clusters of features, and tested on the other half, so that no example both
    names a slice and convicts it.

    The features are those of the student alone, not the teacher's or the student's own: a network
    that is not on trial favours neither. Where a network is sure of itself every other looks worse
    beside it, so slices cut by its own features would lean to its side.

    Args:
        most: Slices that may be proposed; each takes from the sharpness of all tests.
        least: Examples that a slice must have, on either half.
    """

    title = "Slices that got worse"

    def __init__(self, most: int = 5, least: int = 30) -> None:
        if most < 1 or least < 5:
            raise RecipeError(
                f"most is {most} and least {least}: propose at least 1 slice, of at least 5 "
                "examples."
            )
        self.most, self.least = most, least

    def absent(self, subjects: Subjects) -> str | None:
        """There must be somebody to compare with."""
        return None if "teacher" in subjects.roles else "there is no teacher to compare with"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Every slice that was tested, with its drop, its excess and the control's."""
        student = subjects.answers("student")
        hits = {
            role: right(subjects.answers(role).logits, student.targets)
            for role in ("teacher", "student", "baseline")
            if role in subjects.models
        }
        rights = Rights(hits["teacher"], hits["student"], hits.get("baseline"))
        first = halves(student.ids, subjects.seed)
        measures = described(subjects.test)
        features, of = _features(subjects)
        proposed = [
            *class_slices(student.targets, student.classes),
            *measured_slices(measures, first, student.targets, student.classes),
            *cluster_slices(features, first, subjects.seed),
        ]
        groups = {
            name: (each.names, each.of(student.ids)) for name, each in subjects.groups.items()
        }
        given = given_slices(groups, self.least)
        short = shortlist(proposed, rights.harm, first, most=self.most, least=self.least)
        tested: list[Slice] = [*(one for one in given if not bool(one.inside.all())), *short]
        known = luck(subjects)
        scales = {} if known is None else _scales(known, [*proposed, *given], ~first, self.least)
        tried = Counter(one.kind for one in [*proposed, *given])
        rows = confirmed(tested, rights, first, scales, known, tried, level=subjects.level)
        for row, one in zip(rows, tested, strict=True):
            row["description"] = described_slice(one, student.targets, student.classes, measures)
        return {
            "examples": len(student),
            "held_back": int((~first).sum()),
            "level": subjects.level,
            "overall": rights.harm.double().mean().item(),
            "features": of,
            "looked_at": len(proposed),
            "given": len(given),
            "control": rights.baseline is not None,
            "visible": visible(rights, first, max(len(tested), 1), 0.2, subjects.level),
            "slices": rows,
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Each slice that got worse, or that none was shown to."""
        found = [_told(row, figures) for row in figures["slices"] if row["confirmed"]]
        if found:
            order = ("warning", "notice", "fine")
            return sorted(found, key=lambda one: order.index(one.status))
        return [
            Finding(
                "fine",
                f"No slice is shown to have lost more than the rest, of {figures['looked_at']:,} "
                f"looked at{_given(figures)}. A fifth of the examples would have to lose about "
                f"{points(figures['visible'], sign=False)} points more than the rest to be found "
                f"with so few ({figures['held_back']:,} held back for the test).",
            )
        ]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """How slices are found, those that were tested, and a picture of their drops."""
        told = (
            "A loss can hide in a corner of the data that no class and no column names. Slices "
            f"were proposed on one half of the test examples ({figures['looked_at']:,} looked at: "
            f"classes, simple measures, clusters of {figures['features']}), and the most striking "
            f"were tested on the other half; given groups were tested on all. A slice is named "
            "only if it lost more than the rest beyond chance, after allowing for all tests."
        )
        if not figures["slices"]:
            return [Words(told), Words("No slice was striking enough, or large enough, to test.")]
        caption = (
            "Accuracy lost in each slice that was tested; filled where it is more than elsewhere "
            "beyond chance; the dashed line is what was lost overall."
        )
        picture = Picture(slice_drops(figures["slices"], figures["overall"]), caption)
        return [Words(told), picture, _table(figures)]


def _scales(known: Luck, slices: Sequence[Slice], seen: Tensor, least: int) -> dict[str, Scale]:
    """How large the statistic gets between independent trainings, by kind of slice."""
    found: dict[str, list[Tensor]] = {}
    for one in slices:
        if least <= int((one.inside & seen).sum()):
            found.setdefault(one.kind, []).append(one.inside)
    return {
        kind: scale(known, partial(excess_z, seen=seen), subsets) for kind, subsets in found.items()
    }


def _features(subjects: Subjects) -> tuple[Tensor, str]:
    """Features of a network that is not on trial: of the baseline; else of no network at all."""
    for role, name in (("baseline", "the student alone"), ("control", "an untaught student")):
        if role not in subjects.models:
            continue
        features = subjects.features(role)
        if features is not None:
            return features, f"features of {name}"
        return subjects.answers(role).logits.clamp(-1e6, 1e6), f"answers of {name}"
    return _projected(subjects.test, subjects.seed), "the inputs themselves"


def _projected(examples: Examples, seed: int) -> Tensor:
    """The inputs on some random directions, which keeps their distances nearly as they are."""
    size = int(torch.tensor(examples.example_shape).prod())
    few = min(size, _FEATURES)
    directions = torch.randn(size, few, generator=generator(seed, "directions of the inputs"))
    parts = []
    for start in range(0, len(examples), 512):
        rows = torch.arange(start, min(start + 512, len(examples)))
        inputs = examples.batch(rows).inputs
        if not isinstance(inputs, Tensor):
            raise DataError(
                "the inputs are several by name, and there is no student alone whose features "
                "could stand for them: train one (baseline) to have slices."
            )
        parts.append(inputs.float().flatten(1) @ directions)
    return torch.cat(parts)


def _told(row: Mapping[str, Any], figures: Mapping[str, Any]) -> Finding:
    half = "" if row["kind"] == "given" else ", proposed by other examples"
    about = f" ({row['description']})" if row["description"] else ""
    text = (
        f"The student got worse in {_article(row)}{about}: {points(-row['drop']['mean'])} points "
        f"against the teacher ({100 * figures['level']:g} % interval {_lost(row['drop'])}), "
        f"{points(-row['elsewhere'])} elsewhere, on {row['examples']:,} examples{half}"
    )
    if row["baseline_drop"] is None:
        return Finding("warning", f"{text}.")
    alone = f"the student alone has {points(-row['baseline_drop'])} points there"
    if row["beyond"]:
        return Finding("warning", f"{text}; {alone}, and trainings differ less by luck.")
    return Finding("notice", f"{text}; {alone}, and trainings differ by as much by luck.")


def _article(row: Mapping[str, Any]) -> str:
    return row["name"] if row["kind"] != "given" else f"the group {row['name']}"


def _given(figures: Mapping[str, Any]) -> str:
    return f" and {figures['given']:,} given" if figures["given"] else ""


def _lost(drop: Mapping[str, float]) -> str:
    return span({"low": -drop["high"], "high": -drop["low"]})


def _table(figures: Mapping[str, Any]) -> Table:
    control = ["Student alone"] if figures["control"] else []
    head = ("Slice", "What is in it", "Examples", "Change", "Elsewhere", *control, "Chance")
    rows = []
    for row in figures["slices"]:
        alone = [points(-row["baseline_drop"])] if control else []
        rows.append(
            (
                row["name"],
                row["description"],
                f"{row['examples']:,}",
                f"{points(-row['drop']['mean'])} ({_lost(row['drop'])})",
                points(-row["elsewhere"]),
                *alone,
                f"{row['p']:.2g}{' ▲' if row['confirmed'] else ''}",
            )
        )
    caption = "Points against the teacher; chance allows for all tests (▲: beyond it)"
    return Table(head, tuple(rows), caption)
