"""One teacher, one student.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
"""

from collections.abc import Iterator

import torch

from tutelage.core.batch import Batch
from tutelage.core.outputs import Answers, Outputs, Terms
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.observed import Frozen
from tutelage.objectives.base import AbstractObjective


class Classic(AbstractSetting[Batch]):
    """The student answers, the teacher answers, the objective compares."""

    def __init__(self, student: Learner, teacher: Answers, objective: AbstractObjective):
        self.student, self.teacher, self.objective = student, teacher, objective
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind the objective's adapters to the shapes of both, and let the student train them."""
        self._tap()  # again: a run that is over has taken its features off
        student = probe(self.student, item)
        with torch.no_grad():
            self.objective.bind(student, self.teacher(item))
        self.student.adopt(self.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item."""
        yield Update(self.student, self.compare, item)

    def _tap(self) -> None:
        self.student.model.tap(self.objective.taps[0])
        if isinstance(self.teacher, Frozen):
            self.teacher.tap(self.objective.taps[1])

    def compare(self, batch: Batch) -> Terms:
        """What the objective says of one batch."""
        answer = self.teacher(batch).detach()
        terms: Terms = self.objective(self.student(batch), answer, batch)
        return terms


def probe(learner: Learner, item: Batch) -> Outputs:
    """A learner's answer that leaves no trace: no gradient, no change of BatchNorm statistics."""
    model = learner.model
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            outputs: Outputs = model(item)
    finally:
        for module, mode in training.items():
            module.training = mode
    return outputs
