"""Fidelity: how far the student answers as its teacher does, and how much of that was taught."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.core.seeds import generator
from tutelage.evaluation.faces.blocks import Block, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.kept.cka import compare_cka, linear_cka, unbiased_cka
from tutelage.evaluation.kept.figures import beside_teacher, taught
from tutelage.evaluation.kept.tables import closeness_table, difference_tables
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.roles import sound_roles, sure_span
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import percent, points, span

_LEARNERS = ("student", "baseline", "control")


@register("part", "fidelity")
class Fidelity(AbstractPart):
    """Agreement with the teacher beside that of students who never saw it: what was taught.

    Stanton et al., arXiv 2106.05945; "A Functional Perspective on Knowledge Distillation",
    arXiv 2510.12615; features by CKA, Kornblith et al., arXiv 1905.00414, with the unbiased
    estimate of Nguyen et al., arXiv 2010.15327.

    Args:
        most: Examples that features are compared on at most.
        parts: Groups of the jackknife that gives the interval of their difference.
    """

    title = "Fidelity: what was taught"
    gates: ClassVar[Mapping[str, Gate]] = {
        "taught_agreement": Gate(
            "agreement with the teacher above that of the student alone",
            False,
            in_part("fidelity", "taught", "agreement"),
            "points",
            needs=("baseline", "teacher"),
        ),
        "copied_errors": Gate(
            "share answered with the teacher's error, above that of the student alone",
            True,
            in_part("fidelity", "taught", "repeated"),
            "points",
            needs=("baseline", "teacher"),
        ),
    }

    def __init__(self, *, most: int = 5000, parts: int = 20):
        if most < 100:
            raise RecipeError(f"most is {most}: features are compared on at least 100 examples.")
        if not 5 <= parts <= 100:
            raise RecipeError(f"parts is {parts}: give 5 to 100.")
        self.most, self.parts = most, parts

    def absent(self, subjects: Subjects) -> str | None:
        """There must be a teacher to be like."""
        return None if "teacher" in subjects.roles else "there is no teacher to be like"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Each learner beside the teacher; the student against the one taught by nobody."""
        sound = sound_roles(subjects)
        if not {"teacher", "student"} <= set(sound):
            raise DataError("the answers of teacher or student are NaN or infinite")
        learners = [role for role in _LEARNERS if role in sound]
        return {
            "examples": len(subjects.test),
            "models": {role: beside_teacher(subjects, role) for role in learners},
            "taught": taught(subjects, "baseline") if "baseline" in learners else None,
            "taught_beyond_control": taught(subjects, "control") if "control" in learners else None,
            "features": self._features(subjects, learners),
        }

    def _features(self, subjects: Subjects, learners: Sequence[str]) -> dict[str, Any] | None:
        found = {role: subjects.features(role) for role in ("teacher", *learners)}
        teacher = found["teacher"]
        if teacher is None or found["student"] is None:
            return None
        kept = {role: one for role, one in found.items() if one is not None}
        kept = {role: one for role, one in kept.items() if bool(one.isfinite().all())}
        if not {"teacher", "student"} <= set(kept) or len(teacher) < 4:
            return None
        # Shuffled: groups of the jackknife must not follow an order of the set.
        dice = generator(subjects.seed, "examples for features")
        rows = torch.randperm(len(teacher), generator=dice)[: self.most]
        chosen = {role: one[rows] for role, one in kept.items()}
        models = {
            role: {
                "cka": linear_cka(chosen["teacher"], chosen[role]),
                "unbiased_cka": unbiased_cka(chosen["teacher"], chosen[role]),
                "width": chosen[role].shape[1],
            }
            for role in learners
            if role in chosen
        }
        nearer = None
        if "baseline" in chosen:
            three = (chosen[role] for role in ("teacher", "student", "baseline"))
            both = compare_cka(*three, parts=self.parts, level=subjects.level)
            nearer = None if both is None else both.difference.as_dict()
        return {
            "examples": len(rows),
            "teacher_width": teacher.shape[1],
            "models": models,
            "taught": nearer,
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """How much was taught, whether errors were, and whether the features came along."""
        agrees = percent(figures["models"]["student"]["agreement"]["mean"])
        if figures["taught"] is None:
            return [
                Finding(
                    "notice",
                    f"The student answers as the teacher does in {agrees} of the test examples; "
                    "how much of that was taught cannot be said without the same student trained "
                    "alone.",
                )
            ]
        found = [_agreement(figures, agrees), _errors(figures), _inside(figures)]
        order = ("warning", "notice", "fine")
        return sorted(filter(None, found), key=lambda one: order.index(one.status))

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """What the figures are, and all of them beside their controls."""
        return [
            Words(
                "Two networks that learn the same task agree in most answers without ever having "
                "met. What counts is what the student shares with its teacher beyond that: beyond "
                "the same student trained alone, and beyond one whose teacher knew nothing."
            ),
            closeness_table(figures),
            *difference_tables(figures),
        ]


def _shown(found: Mapping[str, Any], key: str) -> bool:
    """Whether it lies above 0 for these examples, and over the seeds where there are enough."""
    seeds = found["seeds"]
    over = None if seeds is None else seeds[key]
    return found[key] is not None and found[key]["low"] > 0 and (over is None or over["low"] > 0)


def _luck(found: Mapping[str, Any], key: str) -> str:
    """What is known of the luck of training."""
    seeds = found["seeds"]
    if seeds is None or seeds[key] is None:
        return "one training of each: its luck is not in this interval"
    return f"over {seeds['count']} trainings of each {span(seeds[key])}"


def _agreement(figures: Mapping[str, Any], agrees: str) -> Finding:
    found = figures["taught"]
    gain, luck = found["agreement"], _luck(found, "agreement")
    alone = percent(figures["models"]["baseline"]["agreement"]["mean"])
    start = (
        f"The student answers as the teacher does in {agrees} of the test examples, the same "
        f"student trained alone in {alone}"
    )
    if _shown(found, "agreement"):
        much = f"{points(gain['mean'], sign=False)} points of the agreement were taught"
        return Finding("fine", f"{start}: {much} ({sure_span(gain)}; {luck}).")
    return Finding(
        "notice",
        f"{start}: it is not shown that any of the agreement was taught ({sure_span(gain)} of the "
        f"difference; {luck}).",
    )


def _errors(figures: Mapping[str, Any]) -> Finding:
    found, student = figures["taught"], figures["models"]["student"]
    errors, luck = found["errors"], _luck(found, "errors")
    if errors is None:
        return Finding("fine", "The teacher makes no error on test that could be copied.")
    alone = figures["models"]["baseline"]
    shares = (
        f"of {student['teacher_errors']:,} errors it repeats {percent(student['copied_errors'])}, "
        f"class and all, the same student alone {percent(alone['copied_errors'])}"
    )
    if not _shown(found, "errors"):
        return Finding(
            "fine",
            f"The student is not shown to copy its teacher's errors: {shares} ({sure_span(errors)} "
            f"of the difference; {luck}).",
        )
    caught, learnt = found["caught_errors"], found["learnt_rights"]
    more = "more" if learnt >= 0 else "fewer"
    balance = (
        f"{caught:,} more of its answers are the teacher's errors, and {abs(learnt):,} {more} are "
        "right where the teacher is"
    )
    return Finding(
        "notice" if learnt > caught else "warning",
        f"The student copies its teacher's errors: {shares}, {points(errors['mean'], sign=False)} "
        f"points more ({sure_span(errors)}; {luck}); {balance}.",
    )


def _inside(figures: Mapping[str, Any]) -> Finding | None:
    features = figures["features"]
    if features is None or features["taught"] is None:
        return None
    taught, models = features["taught"], features["models"]
    both = (
        f"{models['student']['unbiased_cka']:.2f} against {models['baseline']['unbiased_cka']:.2f} "
        f"of the same student alone (CKA; interval of the difference {taught['low']:+.3f} to "
        f"{taught['high']:+.3f})"
    ).replace("-", "−")
    if taught["low"] > 0:
        return Finding("fine", f"Its features became more like the teacher's: {both}.")
    if taught["high"] < 0:
        return Finding("notice", f"Its features became less like the teacher's: {both}.")
    return Finding("notice", f"Its features are not shown to be more like the teacher's: {both}.")
