"""What the figures of cost mean, in sentences: student against teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage.evaluation.part import Finding, Status
from tutelage.evaluation.wording import BACKENDS, large, listing, milliseconds, size, times

_WORST: tuple[Status, ...] = ("warning", "notice", "fine")
_EQUAL = 1.05
"""Ratios nearer to 1 than this are called the same."""


def size_findings(models: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Multiplications and memory of an answer: a sentence; and one for what is not known.

    Args:
        models: Figures of each role: ``macs``, ``memory`` and why they may be None.
    """
    student, teacher = models["student"], models.get("teacher")
    kinds: tuple[tuple[str, str, str, Callable[[float | None], str]], ...] = (
        ("macs", "fewer", "multiply-accumulates", large),
        ("memory", "less", "memory beside the weights", size),
    )
    found, told = [], []
    for key, less, what, word in kinds:
        if student[key] is None:
            continue
        if teacher is None or not teacher[key]:
            told.append(f"{word(student[key])} {what}")
        else:
            told.append(_ratio(student[key], teacher[key], less, what, word))
    if told:
        worse = any(_more(student, teacher, key) for key, *_ in kinds)
        text = f"One answer of the student takes {listing(told)}."
        found.append(Finding("notice" if worse else "fine", text))
    for role, model in models.items():
        for key, what in (("macs", "Multiply-accumulates"), ("memory", "Memory")):
            if model[key] is None:
                text = f"{what} of the {role}'s answers could not be counted: {model[f'{key}_why']}"
                found.append(Finding("notice", text))
    return found


def latency_findings(latencies: Sequence[Mapping[str, Any]], batch: int) -> list[Finding]:
    """How fast the student is one by one and in batches, on one thread, in each backend.

    A warning where even the teacher's slow calls are faster than the student's usual ones.

    Args:
        latencies: Figures of each role under each condition.
        batch: The larger of the two batches.
    """
    found = []
    for backend in dict.fromkeys(each["backend"] for each in latencies):
        told: list[str] = []
        statuses: list[Status] = []
        for many, words in ((1, "for one answer"), (batch, f"for {batch} at once")):
            measured = {
                each["role"]: each
                for each in latencies
                if (each["backend"], each["threads"], each["batch"]) == (backend, 1, many)
            }
            student, teacher = measured.get("student"), measured.get("teacher")
            if student is None:
                continue
            status, compared = _faster(student, teacher)
            statuses.append(status)
            told.append(f"{milliseconds(student['p50'])} {words}{compared}")
        if told:
            worst = min(statuses, key=_WORST.index)
            where = BACKENDS.get(backend, backend)
            text = f"On one thread in {where} the student takes {listing(told)}."
            found.append(Finding(worst, text))
    return found


def training_findings(training: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    """What training a student cost with a teacher, and without.

    Args:
        training: By arm: ``seconds`` and ``steps`` of all ``runs`` together.
    """
    if "student" not in training:
        return []
    student, alone = _each(training["student"]), _each(training.get("baseline"))
    text = f"Training one student with its teacher took {student:,.0f} s"
    if alone:
        ratio = student / alone
        words = f"{times(ratio)}× the" if ratio >= 1 else f"{times(1 / ratio)}× less than the"
        text += f", {words} {alone:,.0f} s without one"
    if "teacher" in training:
        text += f"; the teacher itself {training['teacher']['seconds']:,.0f} s"
    return [Finding("fine", f"{text}.")]


def _each(facts: Mapping[str, float] | None) -> float:
    return 0.0 if facts is None else facts["seconds"] / facts.get("runs", 1)


def _ratio(
    student: float, teacher: float, less: str, what: str, word: Callable[[float | None], str]
) -> str:
    both = f"({word(student)} in place of {word(teacher)})"
    if teacher > _EQUAL * student:
        return f"{times(teacher / student)}× {less} {what} {both}"
    if student > _EQUAL * teacher:
        return f"{times(student / teacher)}× more {what} {both}"
    return f"the same {what} {both}"


def _more(student: Mapping[str, Any], teacher: Mapping[str, Any] | None, key: str) -> bool:
    return bool(teacher and student[key] and teacher[key] and student[key] > _EQUAL * teacher[key])


def _faster(student: Mapping[str, Any], teacher: Mapping[str, Any] | None) -> tuple[Status, str]:
    if teacher is None or not student["p50"] or not teacher["p50"]:
        return "fine", ""
    ratio = teacher["p50"] / student["p50"]
    if ratio > _EQUAL:
        return "fine", f" ({times(ratio)}× faster than the teacher)"
    if ratio > 1 / _EQUAL:
        return "notice", " (no faster than the teacher)"
    surely = student["p50"] > teacher["p99"]
    return ("warning" if surely else "notice"), f" ({times(1 / ratio)}× slower than the teacher)"
