"""What people call the models on trial, and which of them give answers that can be measured."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.metrics import broken
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import NAMES as NAMES
from tutelage.evaluation.wording import span


def sound_roles(subjects: Subjects, split: str = "test") -> list[str]:
    """The roles whose answers to a split are numbers; a model that says NaN cannot be measured."""
    return [
        role
        for role in subjects.roles
        if not bool(broken(subjects.answers(role, split).logits).any())
    ]


def sure_span(interval: Mapping[str, Any]) -> str:
    """An interval of a difference of shares, in points, with its confidence.

    >>> sure_span({"low": 0.01, "high": 0.025, "level": 0.95})
    '95 % interval +1.0 to +2.5'
    """
    return f"{100 * interval['level']:.0f} % interval {span(dict(interval))}"
