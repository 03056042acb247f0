"""(No situation) One teacher and one student that are given different inputs of one batch."""

from abc import abstractmethod
from collections.abc import Iterator

from tutelage.core.batch import Batch
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.probing import asked, check_student, frozen, lend, probed


class AbstractTwoInputs(AbstractSetting[Batch]):
    """What such settings share; they say who sees what (`both`).

    Args:
        student: Who learns.
        teacher: Whatever answers a batch with outputs; an `Observed` is frozen.
        objective: What the student should become.
    """

    def __init__(self, student: Learner, teacher: Answers, objective: AbstractObjective):
        check_student(student)
        self.teacher = frozen(teacher)
        self.student, self.objective = student, objective
        self._tap()

    @abstractmethod
    def both(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch as the student sees it, and as the teacher does."""

    def judged(self, batch: Batch, ours: Batch) -> Batch:
        """The batch as the objective sees it: the student's own, unless said otherwise."""
        return ours

    def prepare(self, item: Batch) -> None:
        """Bind the objective to what each answers to its own inputs.

        Raises:
            DataError: The item is no batch of named inputs, or lacks an entry.
            RecipeError: The teacher does not answer batches, or cannot lend what is borrowed.
            ShapeMismatch: One of the two cannot read its inputs, or answers do not fit.
        """
        self._tap()
        lend(self.objective, self.student, self.teacher)
        ours, theirs = self.both(item)
        self.objective.bind(probed(self.student, ours), asked(self.teacher, theirs))
        self.student.adopt(self.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item."""
        yield Update(self.student, self.compare, item)
        self.objective.advance()

    def compare(self, batch: Batch) -> Terms:
        """What the objective says of one batch."""
        ours, theirs = self.both(batch)
        answer = self.teacher(theirs).detach()
        terms: Terms = self.objective(self.student(ours), answer, self.judged(batch, ours))
        return terms

    def _tap(self) -> None:
        self.student.model.tap(self.objective.taps[0])
        if isinstance(self.teacher, Tapped):
            self.teacher.tap(self.objective.taps[1])
