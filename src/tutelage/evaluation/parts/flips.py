"""Silent regressions: what was right before the student came, and is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.registry import register
from tutelage.evaluation.blocks import Block, Words
from tutelage.evaluation.fidelity import negative_flip_rate
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import percent


@register("part", "flips")
class Flips(AbstractPart):
    """Negative flips of the student against its teacher."""

    title = "Silent regressions"

    def absent(self, subjects: Subjects) -> str | None:
        """There must be somebody to compare with."""
        return None if "teacher" in subjects.roles else "there is no teacher to compare with"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """The share."""
        student, teacher = subjects.answers("student"), subjects.answers("teacher")
        return {"negative": negative_flip_rate(student.logits, teacher.logits, student.targets)}

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """One sentence."""
        return [Finding("notice", f"{percent(figures['negative'])} became wrong.")]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """A sentence."""
        return [Words(f"{percent(figures['negative'])} of the examples became wrong.")]
