"""A student that cuts text otherwise than its teacher: each reads tokens of its own.

Minixhofer, Vulić, Ponti: Universal Cross-Tokenizer Distillation via Approximate Likelihood
Matching, 2025, arXiv:2503.20083.
"""

from dataclasses import replace

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, suggest
from tutelage.core.registry import register
from tutelage.settings.two_inputs import AbstractTwoInputs

_NOT_READ = ("group", "targets", "mask")
"""What of a side is for the objective, and not for the model."""


@register("setting", "cross_tokenizer")
class CrossTokenizer(AbstractTwoInputs):
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

    def judged(self, batch: Batch, ours: Batch) -> Batch:
        """The whole: groups of both, and the student's targets and mask."""
        return batch

    def both(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch as the student sees it, and as the teacher does.

        Raises:
            DataError: The item is no batch of two tokenizers.
        """
        return sides_of(batch)


def sides_of(batch: Batch) -> tuple[Batch, Batch]:
    """A batch of two tokenizers as the student sees it, and as the teacher does.

    Raises:
        DataError: It is none.
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
    return replace(batch, inputs=ours), replace(batch, inputs=theirs, targets=targets, mask=mask)
