"""A student is taught by all that are larger, some of whom are silent at any moment.

Son, Na, Choi, Hwang: Densely Guided Knowledge Distillation using Multiple Teacher Assistants, 2020,
arXiv:2009.08825.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.probing import asked, check_student, frozen, lend, probed


class DenselyGuided(AbstractSetting[Batch]):
    r"""DGKD: a teacher and all its assistants teach at once; a few are dropped for each item.

    .. math:: L_{labels} + \sum_{k \in heard} L(q, p_k)

    The paper's is ``0.x * CrossEntropy()`` for the labels and ``(1 - 0.x) * SoftTarget(T)`` for
    each guide; who is heard is drawn for every item, ``drop`` fewer than there are, as in the
    authors' code.

    Scale: the sum over guides, as theirs, so that dropping some makes it smaller; their divergence
    is a mean over classes too (÷ C).

    Args:
        student: Who learns.
        guides: Whatever answers a batch; an `Observed` is frozen.
        labels: Without a teacher; counted once.
        objective: With one; each guide has a copy of its own (adapters).
        drop: How many guides are silent, less than there are.

    Raises:
        RecipeError: No guides, too many dropped, or labels that ask for a teacher.
    """

    def __init__(
        self,
        student: Learner,
        guides: Sequence[Answers],
        labels: AbstractObjective,
        objective: AbstractObjective,
        *,
        drop: int = 0,
    ):
        check_student(student)
        whole = isinstance(drop, int) and not isinstance(drop, bool)
        if not guides or not whole or not 0 <= drop < len(guides):
            raise RecipeError(
                f"of {len(guides)} guides at least one must be heard: drop must be a whole number "
                f"from 0 to {max(len(guides) - 1, 0)}, got {drop!r}."
            )
        if labels.needs_teacher:
            raise RecipeError("labels must need no teacher, such as ce: the guides have their own.")
        self.student, self.labels, self.drop = student, labels, drop
        self.guides = [frozen(g) for g in guides]
        self.objectives = [copy.deepcopy(objective) for _ in guides]
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind each guide's objective to the shapes of both, and let the student train them.

        Raises:
            DataError: The item is no batch.
            ShapeMismatch: The student or a guide cannot read this one, or answers do not fit.
        """
        self._tap()  # again: a run that is over has taken its features off
        answer = probed(self.student, item)
        lend(self.labels, self.student, None)
        self.labels.bind(answer, answer)
        self.student.adopt(self.labels)
        for guide, objective in zip(self.guides, self.objectives, strict=True):
            lend(objective, self.student, guide)
            objective.bind(answer, asked(guide, item))
            self.student.adopt(objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """Draw who is heard; one update."""
        heard = torch.randperm(len(self.guides))[self.drop :].sort().values.tolist()
        yield Update(self.student, partial(self.compare, heard), item)
        for objective in [self.labels, *self.objectives]:
            objective.advance()

    def compare(self, heard: Sequence[int], batch: Batch) -> Terms:
        """The labels' terms, and the sum of those of the guides that are heard."""
        answer = self.student(batch)
        terms: dict[str, Tensor] = dict(self.labels(answer, answer.detach(), batch))
        for guide in heard:
            said = self.guides[guide](batch).detach()
            for name, term in self.objectives[guide](answer, said, batch).items():
                terms[name] = terms[name] + term if name in terms else term
        return terms

    def _tap(self) -> None:
        for guide, objective in zip(self.guides, self.objectives, strict=True):
            self.student.model.tap(objective.taps[0])
            if isinstance(guide, Tapped):
                guide.tap(objective.taps[1])
        self.student.model.tap(self.labels.taps[0])
