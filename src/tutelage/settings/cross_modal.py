"""A student that reads one modality learns from a teacher that reads another.

Gupta, Hoffman, Malik: Cross Modal Distillation for Supervision Transfer, 2015, arXiv:1507.00448.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, suggest
from tutelage.core.outputs import Answers
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.two_inputs import AbstractTwoInputs

Names = str | Sequence[str]
"""One entry of the inputs, given to the model as a tensor; or several, given by name."""


@register("setting", "cross_modal")
class CrossModal(AbstractTwoInputs):
    """Two views or modalities of one example, paired: depth and colour, sound and picture.

    Inputs come by name (``Batch.inputs`` is a mapping); the student is given its entries and
    the teacher its own, of the same examples in the same order. Where one name is said, the model
    gets the tensor; where several are, a mapping of them. Labels are not needed where the
    objective reads none: this is how unlabelled pairs transfer supervision.

    Neighbours: `Classic` gives both the same inputs. The paper matches features in the middle:
    ``match`` as the objective.

    Args:
        student: Who learns.
        teacher: Whatever answers a batch with outputs; an `Observed` is frozen.
        objective: What the student should become.
        student_inputs: Name or names of what the student reads.
        teacher_inputs: Name or names of what the teacher reads.

    Raises:
        RecipeError: A name is missing.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers,
        objective: AbstractObjective,
        *,
        student_inputs: Names,
        teacher_inputs: Names,
    ):
        self.ours = _names(student_inputs, "student_inputs")
        self.theirs = _names(teacher_inputs, "teacher_inputs")
        super().__init__(student, teacher, objective)

    def both(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch as the student sees it, and as the teacher does.

        Raises:
            DataError: The item is no batch of paired, named inputs, or lacks an entry.
        """
        return _seen(batch, self.ours), _seen(batch, self.theirs)


def _names(said: Names, option: str) -> Names:
    names = [said] if isinstance(said, str) else said
    named = isinstance(names, (list, tuple)) and all(isinstance(n, str) and n for n in names)
    if not named or not names:
        raise RecipeError(
            f"{option} must be the name of an input, or a list of some, got {said!r}."
        )
    return said


def _seen(batch: Batch, names: Names) -> Batch:
    inputs = batch.inputs if isinstance(batch, Batch) else None
    if inputs is None or isinstance(inputs, Tensor):
        kind = type(batch).__name__ if inputs is None else "one tensor"
        raise DataError(
            f"cross-modal learning reads named inputs, and got {kind}: let the source give "
            "Batch({'depth': ..., 'colour': ...}, targets)."
        )
    wanted = [names] if isinstance(names, str) else names
    for name in wanted:
        if name not in inputs:
            raise DataError(f"this batch has no input {name!r}. {suggest(name, inputs)}")
    counts = {name: len(value) for name, value in inputs.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"named inputs must be of the same examples, and this batch has {counts}: give every "
            "example every entry, or leave those out that lack one."
        )
    if isinstance(names, str):
        return replace(batch, inputs=inputs[names])
    return replace(batch, inputs={name: inputs[name] for name in names})
