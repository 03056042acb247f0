"""What the maps show, in plain sentences."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.explain.looking import place_of
from tutelage.evaluation.part import Finding
from tutelage.evaluation.wording import points

_OTHER = {"teacher": "its teacher", "baseline": "the student alone"}


def spot(found: Mapping[str, Any], against: str) -> Finding:
    """A place that the student decides by, and the other does not: a shortcut, perhaps."""
    return Finding(
        "warning",
        f"The student decides by {place_of(found['cell'])} of the images, where {_OTHER[against]} "
        f"does not look: {_share(found['share'])} of its attention lies there (of the other's "
        f"{_share(found['other_share'])}), and hiding that spot costs it "
        f"{points(found['cost'], sign=False)} points of accuracy, the other "
        f"{points(found['other_cost'], sign=False)}. It may have learned a mark, not the thing.",
    )


def no_spot(against: str) -> Finding:
    """That no such place was found."""
    return Finding(
        "fine",
        f"No spot was found that the student needs and {_OTHER[against]} can do without.",
    )


def likeness(figures: Mapping[str, Any]) -> Finding | None:
    """Whether teaching made the student look where its teacher looks."""
    student = figures["alike"].get("student")
    if student is None or student["rank"] is None:
        return None
    ranks = f"rank correlation of their maps {_number(student['rank'])}"
    nearer = figures["nearer"]
    if nearer is None:
        return Finding(
            "notice",
            f"Student and teacher look at places that are alike by so much: {ranks}; without a "
            "student trained alone beside it, nobody can say whether that was taught.",
        )
    alone = _number(figures["alike"]["baseline"]["rank"])
    change = f"{_sign(nearer['low'])} to {_sign(nearer['high'])}"
    text = f"{ranks}, of the student alone {alone}; difference {change}"
    if nearer["low"] > 0:
        return Finding(
            "fine", f"Teaching made the student look more where its teacher looks: {text}."
        )
    if nearer["high"] < 0:
        return Finding(
            "notice", f"The student looks less where its teacher looks than alone: {text}."
        )
    return Finding(
        "notice",
        f"Teaching is not shown to have made the student look where its teacher looks: {text}.",
    )


def faithful(figures: Mapping[str, Any]) -> Finding:
    """Whether the student's maps tell what it decides by (deletion), and depend on its weights."""
    student, sane = figures["models"]["student"], figures["unlearned"]
    if sane is not None and sane["low"] > 0.5:
        return Finding(
            "notice",
            "Do not read much into the student's maps: those of a copy that has learned nothing "
            f"are nearly the same (rank correlation {_number(sane['mean'])}).",
        )
    gain = student["deletion"]["gain"]
    if gain["low"] > 0:
        return Finding(
            "fine",
            "The student's maps tell what it decides by: its certainty goes faster when what they "
            f"call important is taken away than by chance (area below the curve "
            f"{_number(student['deletion']['map'])} against "
            f"{_number(student['deletion']['chance'])}).",
        )
    return Finding(
        "notice",
        "The student's maps are not shown to tell what it decides by: taking away what they call "
        f"important lowers its certainty no faster than chance (area "
        f"{_number(student['deletion']['map'])} against "
        f"{_number(student['deletion']['chance'])}).",
    )


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}".replace("-", "−")


def _sign(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
