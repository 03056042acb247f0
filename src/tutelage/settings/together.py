"""Several students of one teacher, who answers each batch once."""

from collections.abc import Iterator, Sequence
from functools import partial

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Outputs, Tapped, Terms
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.peers import Shared, check_peers, copies_of
from tutelage.settings.probing import asked, frozen, lend, probed


class Together(AbstractSetting[Batch]):
    """Every student learns as it would alone (`Classic`), and the teacher's work is shared.

    The teacher answers a batch once, in the first student's update, with every feature that any
    student's objective reads; the others get the same answer. Students do not see each other:
    each ends where `Classic` would have brought it, but for draws of dropout inside them, which
    follow the number of the update.

    Neighbours: `Mutual` and `Collaborative` have no teacher; a cache answers later epochs too.

    Args:
        students: At least one learner, with parameters of their own; networks may differ.
        teacher: Whatever answers a batch with outputs; an `Observed` is frozen.
        objective: For all (each gets a copy), or one for each.

    Raises:
        RecipeError: Shared parameters, or objectives that are not one for each.
    """

    def __init__(
        self,
        students: Sequence[Learner],
        teacher: Answers,
        objective: AbstractObjective | Sequence[AbstractObjective],
    ):
        self.students = check_peers(students, least=1)
        self.teacher = frozen(teacher)
        if isinstance(objective, AbstractObjective):
            objective = copies_of(objective, len(self.students))
        if len({id(each) for each in objective}) != len(self.students):
            raise RecipeError(
                f"{len(self.students)} students need one objective for all or one for each, got "
                f"{len(objective)}: adapters and memories cannot be shared."
            )
        self.objectives = list(objective)
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind each objective to the shapes of its student and of the teacher.

        Raises:
            DataError: The item is no batch.
            RecipeError: The teacher does not answer batches, or cannot lend what is borrowed.
            ShapeMismatch: One cannot read this one, or answers do not fit.
        """
        self._tap()
        said = [probed(student, item) for student in self.students]
        answer = asked(self.teacher, item)
        for own, student, objective in zip(said, self.students, self.objectives, strict=True):
            lend(objective, student, self.teacher)
            objective.bind(own, answer)
            student.adopt(objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update a student."""
        answer = Shared(self.answer)
        for k, student in enumerate(self.students):
            yield Update(student, partial(self.compare, answer, k), item, f"student{k}")
            self.objectives[k].advance()

    def compare(self, answer: Shared[Outputs], k: int, batch: Batch) -> Terms:
        """What student k's objective says of one batch."""
        terms: Terms = self.objectives[k](self.students[k](batch), answer(k, batch), batch)
        return terms

    def answer(self, batch: Batch) -> Outputs:
        """The teacher's."""
        return self.teacher(batch).detach()

    def _tap(self) -> None:
        for student, objective in zip(self.students, self.objectives, strict=True):
            student.model.tap(objective.taps[0])
            if isinstance(self.teacher, Tapped):
                self.teacher.tap(objective.taps[1])
