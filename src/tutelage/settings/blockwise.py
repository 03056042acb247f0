"""All blocks of the student learn at once, each from its teacher's block and nothing else.

Li, Peng, Yuan, Wang, Liang, Lin, Chang: Blockwisely Supervised Neural Architecture Search with
Knowledge Distillation, 2019, arXiv:1911.13053.
"""

from collections.abc import Iterator
from itertools import permutations

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.machine import world
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.matching.blockwise import Blockwise
from tutelage.settings.probing import asked, check_student, frozen, lend, probed


@register("setting", "blocks")
class Blocks(AbstractSetting[Batch]):
    r"""DNA: block k is given the teacher's feature k - 1, and must give its feature k.

    .. math:: \theta_k \leftarrow \theta_k - \eta \nabla_{\theta_k}
        \frac{\big\| B_k(t_{k-1}; \theta_k) - t_k \big\|_2^2}{K \, \sigma(t_k)^2}
        \quad \text{for all } k \text{ at once}

    The gradient of a block's error touches that block (and its adapters) alone. The student as a
    whole is never run, so its BatchNorm keeps statistics of the teacher's features only; what is
    in no block does not learn. Blocks that were taught apart have not met each other, nor the
    adapters between them: let the whole student learn afterwards (`Classic`).

    Li, Peng, Yuan, Wang, Liang, Lin, Chang: Blockwisely Supervised Neural Architecture Search with
    Knowledge Distillation, 2019, arXiv:1911.13053.

    Deviations: one optimizer, which for those that work number by number (SGD, Adam) is the same
    as one a block; a learning rate a block, as in the authors' code, needs runs of its own. There
    is one candidate a block: searching among several is another matter.

    Args:
        student: Lends its blocks; without ``clip``, whose norm would join them.
        teacher: A model whose features can be tapped.
        objective: `tutelage.objectives.Blockwise`.

    Raises:
        RecipeError: The objective is another; blocks are inside each other; gradients are clipped.
        MissingFeature: A path is not there.
    """

    def __init__(self, student: Learner, teacher: Answers, objective: Blockwise):
        check_student(student)
        if not isinstance(objective, Blockwise):
            raise RecipeError(
                f"the blockwise setting learns by the objective 'blockwise', got "
                f"{type(objective).__name__}: use that, or the setting 'classic'."
            )
        for outer, inner in permutations(objective.blocks, 2):
            if inner.startswith(f"{outer}."):
                raise RecipeError(
                    f"blockwise: {inner!r} is inside {outer!r}, so the two would not learn apart: "
                    "name one of them."
                )
        if student.clip is not None:
            raise RecipeError(
                f"blockwise: clip {student.clip:g} is of the norm over all blocks, which are to "
                "learn apart: leave it out."
            )
        self.student, self.objective = student, objective
        self.teacher = frozen(teacher)
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Borrow the blocks; bind their adapters.

        Raises:
            DataError: The item is no batch.
            RecipeError: The teacher does not answer batches; several processes.
            ShapeMismatch: A block cannot read the teacher's feature.
        """
        if world() > 1:
            raise RecipeError(
                "blockwise runs parts of the student on their own, which several processes cannot "
                "follow: set parallel: none."
            )
        self._tap()
        lend(self.objective, self.student, self.teacher)
        self.objective.bind(probed(self.student, item), asked(self.teacher, item))
        self.student.adopt(self.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update of all blocks an item."""
        yield Update(self.student, self.compare, item)
        self.objective.advance()

    def compare(self, batch: Batch) -> Terms:
        """The sum of the blocks' errors."""
        answer = self.teacher(batch).detach()
        # The student's own answer plays no part: the teacher's stands in for it.
        terms: Terms = self.objective(answer, answer, batch)
        return terms

    def _tap(self) -> None:
        if isinstance(self.teacher, Tapped):
            self.teacher.tap(self.objective.taps[1])
