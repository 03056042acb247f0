"""One teacher, one student.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
"""

from collections.abc import Iterator

from tutelage.core.batch import Batch
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.probing import asked, check_student, lend, probed
from tutelage.settings.probing import probe as probe


@register("setting", "classic")
class Classic(AbstractSetting[Batch]):
    """The student answers, the teacher answers, the objective compares.

    Args:
        student: Who learns.
        teacher: Whatever answers a batch with outputs; an `Observed` is frozen.
        objective: What the student should become.
    """

    def __init__(self, student: Learner, teacher: Answers, objective: AbstractObjective):
        check_student(student)
        if isinstance(teacher, Observed):
            teacher = Frozen(teacher)
        self.student, self.teacher, self.objective = student, teacher, objective
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind the objective's adapters to the shapes of both, and let the student train them.

        Raises:
            DataError: The item is no batch.
            RecipeError: The teacher does not answer batches, or cannot lend what is borrowed.
            ShapeMismatch: One of the two cannot read this one, or their answers do not fit.
        """
        self._tap()  # again: a run that is over has taken its features off
        lend(self.objective, self.student, self.teacher)
        self.objective.bind(probed(self.student, item), asked(self.teacher, item))
        self.student.adopt(self.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item."""
        yield Update(self.student, self.compare, item)
        self.objective.advance()

    def _tap(self) -> None:
        self.student.model.tap(self.objective.taps[0])
        if isinstance(self.teacher, Tapped):
            self.teacher.tap(self.objective.taps[1])

    def compare(self, batch: Batch) -> Terms:
        """What the objective says of one batch."""
        answer = self.teacher(batch).detach()
        terms: Terms = self.objective(self.student(batch), answer, batch)
        return terms
