"""Looking before learning: what students and teachers answer to the first item."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch
from tutelage.core.outputs import Answers, Lender, Outputs
from tutelage.engine.learner import Learner
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives.base import AbstractObjective

Teacher = TypeVar("Teacher")


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


def probed(learner: Learner, item: Batch) -> Outputs:
    """`probe`, where what cannot be read is refused in one line.

    Raises:
        DataError: The item is no batch.
        ShapeMismatch: The student cannot read it.
    """
    if not isinstance(item, Batch):
        size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
        raise DataError(
            f"this setting learns from batches, and got a {type(item).__name__}{size}, expected "
            "Batch: let the source give Batch(inputs, targets), or pairs of two tensors."
        )
    with _reading("student", item):
        return probe(learner, item)


def asked(teacher: Answers, item: Batch) -> Outputs:
    """The teacher's first answer, without a graph.

    Raises:
        RecipeError: It does not answer batches: a bare module, say.
        ShapeMismatch: It cannot read this one.
    """
    try:
        with torch.no_grad(), _reading("teacher", item):
            answer = teacher(item)
    except (TypeError, AttributeError) as error:
        if "Batch" not in str(error):
            raise
        raise _no_teacher(teacher) from error
    if not isinstance(answer, Outputs):
        raise _no_teacher(teacher)
    return answer


def frozen(teacher: Teacher) -> Teacher | Frozen:
    """Who teaches: an `Observed` is frozen, whatever else answers stays as it is."""
    return Frozen(teacher) if isinstance(teacher, Observed) else teacher


def lend(objective: AbstractObjective, student: Learner, teacher: object) -> None:
    """Hand the objective the modules that it borrows.

    Raises:
        MissingFeature: One of them is not there.
        RecipeError: The teacher has no modules to lend: a cache, a remote one.
    """
    ours, theirs = objective.borrows
    if theirs and not isinstance(teacher, Lender):
        raise RecipeError(
            f"this objective runs modules of the teacher ({', '.join(theirs)}), and a "
            f"{type(teacher).__name__} has none to lend: give the model itself as the teacher."
        )
    objective.borrow(
        student.model.lend(ours), teacher.lend(theirs) if isinstance(teacher, Lender) else {}
    )


def check_student(student: object) -> None:
    """Refuse a model where a learner is asked for."""
    if not isinstance(student, Learner):
        raise RecipeError(
            f"the student must be a Learner, got {type(student).__name__}: wrap it: "
            "Learner(Observed(model), sgd())."
        )


def _no_teacher(teacher: object) -> RecipeError:
    how = "Frozen(Observed(model))" if isinstance(teacher, nn.Module) else "a function of a Batch"
    return RecipeError(
        f"the teacher, a {type(teacher).__name__}, does not answer a Batch with Outputs: wrap it: "
        f"{how}."
    )


@contextmanager
def _reading(who: str, item: Batch) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise ShapeMismatch(
            f"the {who} cannot read inputs of {_described(item)}: {said}: give it what it was "
            "made for (size, channels, float images in [0, 1]), or an intake that makes it so."
        ) from error


def _described(item: Batch) -> str:
    if not isinstance(item.inputs, Tensor):
        shapes = {name: tuple(one.shape) for name, one in item.inputs.items()}
        return f"shapes {shapes}"
    kind = "" if item.inputs.dtype == torch.float32 else f" and type {item.inputs.dtype}"
    return f"shape {tuple(item.inputs.shape)}{kind}"
