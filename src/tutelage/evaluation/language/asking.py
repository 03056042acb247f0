"""Tasks asked of all models of a run, and what became of them: figures with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tutelage.core.errors import TutelageError
from tutelage.core.text import TextTokenizer
from tutelage.evaluation.intervals import (
    Interval,
    mean_interval,
    newcombe,
    paired_bootstrap,
    paired_interval,
    wilson,
)
from tutelage.evaluation.language.tasks import Task, answer_task
from tutelage.evaluation.language.writing import greedy, reads_at_most, why_silent
from tutelage.models import Observed


@dataclass(frozen=True)
class Scores:
    """One model on one task.

    Attributes:
        values: Of each question, in the task's order: 1 for right, 0 for wrong, or a figure.
        metric: What they are.
        better: ``higher`` or ``lower``.
        others: Further figures of the whole task, by name.
        total: The task's figure, where it is not the mean of ``values``, which are then empty.
    """

    values: tuple[float, ...]
    metric: str = "accuracy"
    better: str = "higher"
    others: Mapping[str, float] = field(default_factory=dict)
    total: float | None = None

    @property
    def figure(self) -> float:
        """Of the whole task."""
        return sum(self.values) / len(self.values) if self.total is None else self.total

    @property
    def shares(self) -> bool:
        """Whether every question is either right or wrong."""
        return bool(self.values) and set(self.values) <= {0.0, 1.0}


class Asked(Protocol):
    """A task that can be put to a model."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def kind(self) -> str:
        """``multiple_choice``, ``exact_match``, or another in a word."""
        ...

    def ask(self, model: Observed, tokenizer: TextTokenizer) -> Scores:
        """What a model makes of it."""
        ...


@dataclass(frozen=True)
class LocalTask:
    """A `tutelage.evaluation.language.tasks.Task` that can be asked."""

    task: Task

    @property
    def name(self) -> str:
        """What people call it."""
        return self.task.name

    @property
    def kind(self) -> str:
        """``multiple_choice`` or ``exact_match``."""
        return self.task.kind

    def ask(self, model: Observed, tokenizer: TextTokenizer) -> Scores:
        """What a model makes of it: in the figures ``accuracy``, and that by bytes of choices."""
        task = self.task
        written = task.kind == "exact_match"
        found = answer_task(
            task,
            model,
            tokenizer,
            longest=reads_at_most(model),
            write=greedy(model, tokenizer, most=task.most) if written else None,
        )
        others = {k: found[k] for k in ("accuracy_by_bytes",) if k in found}
        return Scores(tuple(map(float, found["right"])), others=others)


def ask_all(
    task: Asked,
    models: Mapping[str, Sequence[Observed]],
    tokenizer: TextTokenizer,
    *,
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Put one task to all models; what one of them cannot answer is told, and the others go on.

    Args:
        task: The task.
        models: By role: the ``teacher`` alone, and of ``student`` and ``baseline`` one a seed, the
            shipped one first.
        tokenizer: Of all of them.
        seeds: Of students and baselines.
        say: Told whom is asked.

    Returns:
        As `figures_of_task`, with ``left_out``: why a role has no figures.
    """
    scores: dict[str, list[Scores]] = {}
    left_out: dict[str, str] = {}
    for role, several in models.items():
        say(f"task {task.name}: {role}")
        try:
            scores[role] = [_ask(task, model, tokenizer) for model in several]
        except TutelageError as error:
            left_out[role] = str(error)
    found = figures_of_task(task.name, task.kind, scores, seeds=seeds)
    return {**found, "left_out": left_out}


def _ask(task: Asked, model: Observed, tokenizer: TextTokenizer) -> Scores:
    why = why_silent(model)
    if why is not None:
        raise TutelageError(f"{why}.")
    return task.ask(model, tokenizer)


def figures_of_task(
    name: str, kind: str, scores: Mapping[str, Sequence[Scores]], *, seeds: Sequence[int]
) -> dict[str, Any]:
    """What a task says of the models, and what changed between them.

    One model's figure has Wilson's interval, or a bootstrap over questions where these are not
    right or wrong; of several seeds it is their mean, with Student's t over seeds, or the reach of
    the shipped one's interval over questions where that is wider. The student that is shipped is
    paired with its teacher question by question (Newcombe, or bootstrap), and with the same student
    alone over seeds, where there are several, likewise no narrower than over questions.

    Args:
        name: Of the task.
        kind: Of the task.
        scores: By role, one a seed; the shipped one first.
        seeds: Of students and baselines.

    Returns:
        ``name``, ``kind``, ``metric``, ``better``, ``share`` (whether questions are right or wrong)
        and ``items``; ``models``: by role ``value`` with its interval, ``seeds`` and ``others``;
        ``comparison``: ``teacher`` and ``baseline``, the student's figure minus theirs with its
        interval. What is not known is None.

    Example:
        >>> right, wrong = Scores((1.0, 1.0, 0.0, 1.0)), Scores((1.0, 0.0, 0.0, 0.0))
        >>> found = figures_of_task("t", "x", {"teacher": [right], "student": [wrong]}, seeds=[0])
        >>> found["models"]["teacher"]["value"]["mean"], found["comparison"]["teacher"]["mean"]
        (0.75, -0.5)
    """
    first = next((each[0] for each in scores.values()), None)
    student = scores.get("student")
    return {
        "name": name,
        "kind": kind,
        "metric": None if first is None else first.metric,
        "better": None if first is None else first.better,
        "share": first is not None and first.shares,
        "items": 0 if first is None else len(first.values),
        "models": {
            role: {
                "value": _value(several),
                "seeds": [
                    {"seed": seed, "value": each.figure}
                    for seed, each in zip(seeds, several, strict=False)
                ]
                if role != "teacher"
                else [],
                "others": dict(several[0].others),
            }
            for role, several in scores.items()
        },
        "comparison": {
            "teacher": _plain(_by_questions(student, scores.get("teacher"))),
            "baseline": _plain(_over_seeds(student, scores.get("baseline"))),
        },
    }


def _value(several: Sequence[Scores]) -> dict[str, Any]:
    first, by_questions = several[0], _one(several[0])
    if len(several) < 2:
        if by_questions is not None:
            return by_questions.as_dict()
        none = {"low": None, "high": None, "level": None, "method": "none"}
        return {"mean": first.figure, **none}
    found = mean_interval([each.figure for each in several])
    return _wider(found, by_questions, (0.0, 1.0) if first.shares else None).as_dict()


def _one(scores: Scores) -> Interval | None:
    """Of one model, over questions; None where these have no values."""
    if scores.shares:
        return wilson(int(sum(scores.values)), len(scores.values))
    if not scores.values:
        return None
    values = torch.tensor(scores.values)
    return _bootstrap(values, torch.zeros_like(values))


def _wider(
    seeds: Interval, questions: Interval | None, within: tuple[float, float] | None
) -> Interval:
    """Around the mean of seeds, as far as either luck reaches: two seeds may agree by luck."""
    if questions is None:
        return seeds
    low = seeds.mean - max(seeds.mean - seeds.low, questions.mean - questions.low)
    high = seeds.mean + max(seeds.high - seeds.mean, questions.high - questions.mean)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    method = f"the wider of {seeds.method} and {questions.method}"
    return Interval(seeds.mean, low, high, seeds.level, method)


def _by_questions(
    student: Sequence[Scores] | None, other: Sequence[Scores] | None
) -> Interval | None:
    """The shipped student's figure minus another's, on the same questions."""
    if not student or not other:
        return None
    ours, theirs = student[0], other[0]
    if not ours.values or len(ours.values) != len(theirs.values):
        return None
    if not (ours.shares and theirs.shares):
        return _bootstrap(torch.tensor(ours.values), torch.tensor(theirs.values))
    pairs = list(zip(ours.values, theirs.values, strict=True))
    counts = [pairs.count(pair) for pair in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))]
    return newcombe(*counts)


def _over_seeds(
    student: Sequence[Scores] | None, alone: Sequence[Scores] | None
) -> Interval | None:
    if not student or not alone:
        return None
    by_questions = _by_questions(student, alone)
    if len(student) < 2 or len(student) != len(alone):
        return by_questions
    both = ([each.figure for each in arm] for arm in (student, alone))
    within = (-1.0, 1.0) if student[0].shares else None
    return _wider(paired_interval(*both), by_questions, within)


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.as_dict()


def _bootstrap(first: torch.Tensor, second: torch.Tensor) -> Interval:
    return paired_bootstrap(first, second, seed=0)
