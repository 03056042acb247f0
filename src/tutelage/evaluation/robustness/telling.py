"""What corruption costs, in plain sentences."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.part import Finding
from tutelage.evaluation.wording import listing, points, span


def versus(teacher: Mapping[str, Any], tolerated: float) -> Finding:
    """Whether corruption costs the student more than its teacher (figures of `against`)."""
    loss, hurt = teacher["loss"], _beyond(teacher, tolerated)
    more = f"({points(loss['mean'])} points, {span(loss)})"
    if hurt:
        kinds = listing([f"{said(k)} ({points(teacher['kinds'][k]['mean'])})" for k in hurt])
        return Finding(
            "warning",
            f"The student bears some bad images far worse than its teacher, in points of accuracy "
            f"lost beyond the teacher's loss: {kinds}.",
        )
    if loss["low"] > tolerated:
        return Finding(
            "warning", f"Bad images cost the student far more accuracy than its teacher {more}."
        )
    if loss["low"] > 0:
        return Finding(
            "notice", f"Bad images cost the student more accuracy than its teacher {more}."
        )
    if loss["high"] < 0:
        return Finding(
            "fine", f"Bad images cost the student less accuracy than its teacher {more}."
        )
    return Finding(
        "fine", f"Bad images are not shown to cost the student more than its teacher {more}."
    )


def taught(alone: Mapping[str, Any]) -> Finding:
    """Whether it costs the student more, or less, than the same student alone."""
    loss = alone["loss"]
    more = f"({points(loss['mean'])} points, {span(loss)})"
    if loss["high"] < 0:
        text = f"With its teacher the student learned to bear bad images better than alone {more}."
        return Finding("fine", text)
    if loss["low"] > 0:
        text = f"Taught by its teacher, the student loses more to bad images than alone {more}."
        return Finding("notice", text)
    text = f"Teaching is not shown to have changed what bad images cost the student {more}."
    return Finding("notice", text)


def _beyond(against: Mapping[str, Any], tolerated: float) -> list[str]:
    """The kinds that cost the student clearly more than is tolerated, worst first."""
    kinds = against["kinds"]
    return sorted((k for k in kinds if kinds[k]["low"] > tolerated), key=lambda k: -kinds[k]["low"])


def said(kind: str) -> str:
    """A kind of corruption as people say it."""
    return "JPEG" if kind == "jpeg" else kind.replace("_", " ")
