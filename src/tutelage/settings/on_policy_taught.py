"""(No situation) What settings share in which the teacher reads what the student wrote."""

from dataclasses import replace

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.engine.learner import Learner
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.probing import asked, frozen, lend, probed
from tutelage.settings.prompts import named, prompts_of
from tutelage.settings.rollouts import Pen, apart, flush, joined, noted
from tutelage.settings.rollouts_setting import AbstractWriting, Lesson, ids_of, refuse_cache


class AbstractTaught(AbstractWriting):
    """The student writes, or reads the data's answers, and an objective compares two answers.

    Args:
        student: Who writes and learns.
        teacher: A live one; an `Observed` is frozen.
        objective: What the student should become.
        pen: How it writes.
        write_for: Updates from one time of writing.
        name: What messages call the setting.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers,
        objective: AbstractObjective,
        pen: Pen,
        write_for: int,
        name: str,
    ):
        super().__init__(student, pen, write_for)
        refuse_cache(teacher, name)
        self.teacher = frozen(teacher)
        self.objective, self.name = objective, name
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind the objective's adapters to the shapes of both, and let the student train them.

        Raises:
            DataError: The item is no batch of text, or has several documents in a row.
            RecipeError: The teacher does not answer batches, or cannot lend what is borrowed.
            ShapeMismatch: One of the two cannot read this one, or their answers do not fit.
        """
        self._tap()  # again: a run that is over has taken its features off
        prompts_of(item, self.name)
        answer = probed(self.student, item)
        lend(self.objective, self.student, self.teacher)
        self.objective.bind(answer, asked(self.teacher, item))
        self.student.adopt(self.objective)

    def compare(self, batch: Batch) -> Terms:
        """What the objective says of one batch."""
        read, _ = apart(batch)
        answer = self.teacher(read).detach()
        terms: Terms = self.objective(self.student(read), answer, batch)
        return terms

    def advance(self) -> None:
        """Move the objective's schedules and memories on."""
        self.objective.advance()

    def _tap(self) -> None:
        self.student.model.tap(self.objective.taps[0])
        if isinstance(self.teacher, Tapped):
            self.teacher.tap(self.objective.taps[1])


def lesson_of(batch: Batch, text: Batch, rows: Tensor, rest: Tensor) -> Lesson:
    """What was written for ``rows`` of ``batch``, and the data's answers in the ``rest``.

    Args:
        batch: The data's.
        text: What was written, one row for each of ``rows``.
        rows: Rows of the batch, ``(M,)``.
        rest: Other rows of the batch.
    """
    if not len(rows):
        variant = torch.zeros_like(ids_of(batch)) if batch.variant is None else batch.variant
        return Lesson(replace(batch, variant=variant), "data")
    assert text.targets is not None
    mine = noted(
        replace(text, targets=torch.full_like(text.targets, -1), variant=torch.ones_like(rows)),
        tokens=text.targets,
    )
    if not len(rest):
        return Lesson(mine, "own")
    theirs = flush(_rows(batch, rest), "the data")
    assert theirs.targets is not None
    none = torch.full_like(theirs.targets, -1)
    theirs = noted(theirs, tokens=none, log_probs=torch.zeros(none.shape, device=none.device))
    return Lesson(joined([theirs, mine], torch.cat([rest, rows]).argsort()), "mixed")


def _rows(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of the data, with everything that `joined` needs."""
    targets = batch.targets
    if targets is None:
        targets = torch.full_like(named(batch)["input_ids"], -1)
    mask = targets >= 0 if batch.mask is None else batch.mask
    return Batch(
        {name: t[rows] for name, t in named(batch).items()},
        targets[rows],
        mask[rows],
        ids_of(batch)[rows],
        variant=torch.zeros_like(rows),
    )
