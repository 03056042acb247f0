"""(No situation) What settings share in which the student learns from what it has written."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Terms
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within, whole_number
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.observed import Observed
from tutelage.settings.probing import check_student
from tutelage.settings.prompts import Prompts, text_of
from tutelage.settings.rollouts import Pen, ended
from tutelage.settings.rollouts_window import History, Window
from tutelage.teachers import Cached


@dataclass(frozen=True)
class Lesson:
    """A batch to learn from.

    Attributes:
        batch: The batch.
        origin: Where its answers are from: ``own``, ``data``, ``mixed`` or ``replayed``.
        age: Updates since its text was written; None where it was written just now, for this
            and the updates before it.
    """

    batch: Batch
    origin: str
    age: int | None = None

    def name(self, age: int) -> str:
        """What the update is called in logs: its origin, and how old its text is in a window.

        >>> [Lesson(Batch(torch.zeros(1, 1)), o).name(a) for o, a in [("own", 0), ("own", 2)]]
        ['own', 'own+2']
        """
        return f"{self.origin}+{age}" if age and self.origin in ("own", "mixed") else self.origin


class AbstractWriting(AbstractSetting[Batch]):
    """A student that writes for several updates at once, and then makes them.

    Batches wait (`Window`) until there is one for each of ``write_for`` updates; then `lessons`
    has all answers written in one go, and the updates follow. So text is at most
    ``write_for - 1`` updates old when it is learnt from: updates are called ``own``, ``own+1``,
    ``own+2`` ... by that, and `history` remembers it. A run takes a multiple of ``write_for``
    items: a last few that do not fill a window are not learnt from.

    Args:
        student: Who writes and learns.
        pen: How it writes.
        write_for: Updates from one time of writing.
    """

    def __init__(self, student: Learner, pen: Pen, write_for: int):
        check_student(student)
        self.student, self.pen = student, pen
        self.write_for = whole_number(write_for, "write_for")
        self.window, self.history = Window(), History()

    def updates(self, item: Batch) -> Iterator[Update]:
        """None while batches wait; then one for each of them."""
        self.window.add(item)
        if len(self.window) < self.write_for:
            return
        place = text_of(item, type(self).__name__).device
        # Drawn from the generator that is a function of (seed, step).
        seed = int(torch.randint(2**62, ()))
        for turn, lesson in enumerate(self.lessons(self.window.take(place), seed)):
            age = turn if lesson.age is None else lesson.age
            yield Update(self.student, self.compare, lesson.batch, lesson.name(age))
            self.history.learnt(0 if lesson.origin == "data" else age)
            self.advance()

    @abstractmethod
    def lessons(self, batches: Sequence[Batch], seed: int) -> Sequence[Lesson]:
        """Write for ``batches``; everything that is drawn is a function of ``seed``."""

    @abstractmethod
    def compare(self, batch: Batch) -> Terms:
        """What is to be lowered on (a part of) a lesson."""

    def advance(self) -> None:
        """One update is done."""

    def written(
        self,
        prompts: Sequence[Prompts],
        ids: Sequence[Tensor],
        seed: int,
        *,
        copies: int = 1,
        data: int = 0,
        writer: Observed | None = None,
    ) -> list[Batch]:
        """The answers to ``prompts``, and an entry in the history.

        Args:
            prompts: One for each batch.
            ids: Numbers of the examples, one for each prompt.
            seed: Of the draw.
            copies: Answers to each prompt, one below the other.
            data: Rows that nothing is written for, for the history.
            writer: Who writes; None is the student.
        """
        if not any(map(len, prompts)):
            self.history.wrote(rows=0, tokens=0, ended=0, data=data)
            return [Batch({"input_ids": p.tokens}) for p in prompts]
        several = [each[_repeated(each.tokens, copies)] for each in prompts]
        # A number of its own for every answer: a prompt may come twice in a window.
        turns = copies * len(prompts)
        numbers = torch.cat(
            [
                (one * turns)[_repeated(one, copies)]
                + k * copies
                + torch.arange(copies, device=one.device).repeat(len(one))
                for k, one in enumerate(ids)
            ]
        )
        found = self.pen.write(writer or self.student.model, several, numbers, seed)
        self.history.wrote(
            rows=sum(map(len, found)),
            tokens=sum(each.count for each in found),
            ended=sum(int(ended(each, self.pen).sum()) for each in found),
            data=data,
        )
        return [
            replace(batch, ids=one[_repeated(one, copies)])
            for batch, one in zip(found, ids, strict=True)
        ]


def ids_of(batch: Batch) -> Tensor:
    """Numbers of a batch's examples; their places in it where it has none."""
    text = text_of(batch, "a student that writes")
    return torch.arange(len(text), device=text.device) if batch.ids is None else batch.ids


def pen(
    most: int, temperature: float, top_p: float, top_k: int | None, end: int | None, asker: str
) -> Pen:
    """How a student writes, from options.

    Raises:
        RecipeError: One is out of range.
    """
    whole_number(most, f"{asker}: most")
    number_within(temperature, f"{asker}: temperature", least=0)
    number_within(top_p, f"{asker}: top_p", above=0, most=1)
    if top_k is not None:
        whole_number(top_k, f"{asker}: top_k")
    if end is not None and (isinstance(end, bool) or not isinstance(end, int) or end < 0):
        raise RecipeError(f"{asker}: end must be the number of a token, or null, got {end!r}.")
    return Pen(most, float(temperature), float(top_p), top_k, end)


def refuse_cache(teacher: object, asker: str) -> None:
    """Refuse a teacher whose answers are kept: what a student writes is new each time.

    Raises:
        RecipeError: It is one.
    """
    inside = teacher.modules() if isinstance(teacher, nn.Module) else [teacher]
    if any(isinstance(part, Cached) for part in inside):
        raise RecipeError(
            f"{asker}: the student's text is new each time, and a cache knows the data's alone: "
            "give the teacher itself, or learn from the data's answers (setting: classic)."
        )


def _repeated(rows: Tensor, copies: int) -> Tensor:
    return torch.arange(len(rows), device=rows.device).repeat_interleave(copies)
