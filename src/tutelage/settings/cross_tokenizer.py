"""A student that cuts text otherwise than its teacher: each reads tokens of its own.

Minixhofer, Vulić, Ponti: Universal Cross-Tokenizer Distillation via Approximate Likelihood
Matching, 2025, arXiv:2503.20083.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, suggest
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.probing import asked, check_student, lend, probed

_NOT_READ = ("group", "targets", "mask")
"""What of a side is for the objective, and not for the model."""


@register("setting", "cross_tokenizer")
class CrossTokenizer(AbstractSetting[Batch]):
    """One text, read by teacher and student through different tokenizers.

    Batches come from `tutelage.data.text.aligned`. The student is given the entries that begin with
    ``student.``, less that word (``input_ids``, ``attention_mask``), the teacher its own; the
    objective sees the whole batch, with the groups of positions that stand for the same bytes, and
    the student's targets and mask. A teacher that keeps answers (a cache, a text server) is given
    its own targets and mask with the same example numbers.

    Neighbours: `CrossModal` is for inputs whose answers are of the same units; `Classic` for one
    tokenizer. Objectives for it: ``alm``, ``overlap``, ``uld``, with ``ce`` beside them.

    Args:
        student: Who learns.
        teacher: Whatever answers a batch with outputs; an `Observed` is frozen.
        objective: What the student should become.
    """

    def __init__(self, student: Learner, teacher: Answers, objective: AbstractObjective):
        check_student(student)
        self.teacher = Frozen(teacher) if isinstance(teacher, Observed) else teacher
        self.student, self.objective = student, objective
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind the objective to what each answers to its own tokens.

        Raises:
            DataError: The item is no batch of two tokenizers.
            RecipeError: The teacher does not answer batches, or cannot lend what is borrowed.
            ShapeMismatch: One of the two cannot read its tokens, or answers do not fit.
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
        terms: Terms = self.objective(self.student(ours), answer, batch)
        return terms

    def both(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch as the student sees it, and as the teacher does.

        Raises:
            DataError: As in `prepare`.
        """
        inputs = batch.inputs if isinstance(batch, Batch) else None
        if inputs is None or isinstance(inputs, Tensor):
            kind = type(batch).__name__ if inputs is None else "one tensor"
            raise DataError(
                f"two tokenizers read named inputs, and this is {kind}: make batches by "
                "tutelage.data.text.aligned."
            )
        sides = []
        for whose in ("student", "teacher"):
            named = {
                name.removeprefix(f"{whose}."): entry
                for name, entry in inputs.items()
                if name.startswith(f"{whose}.")
            }
            if "input_ids" not in named:
                raise DataError(
                    f"this batch has no input '{whose}.input_ids'. "
                    f"{suggest(f'{whose}.input_ids', inputs)}"
                )
            sides.append(named)
        ours, theirs = ({k: v for k, v in s.items() if k not in _NOT_READ} for s in sides)
        targets, mask = sides[1].get("targets"), sides[1].get("mask")
        return replace(batch, inputs=ours), replace(
            batch, inputs=theirs, targets=targets, mask=mask
        )

    def _tap(self) -> None:
        self.student.model.tap(self.objective.taps[0])
        if isinstance(self.teacher, Tapped):
            self.teacher.tap(self.objective.taps[1])
