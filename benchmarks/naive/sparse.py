"""Targets made of a teacher's top k, as most systems make them: the tail's mass is lost."""

from collections.abc import Mapping

import torch.nn.functional as F
from benchmarks.naive import Naive
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.objectives import AbstractUnitLoss


def zeroed(student: Tensor, answers: SparseOutputs) -> Tensor:
    """The teacher's top k renormalised, its tail 0, the student's softmax over all classes."""
    log_q = F.log_softmax(student, -1).gather(-1, answers.top)
    log_p = F.log_softmax(answers.logits, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def renormalised(student: Tensor, answers: SparseOutputs) -> Tensor:
    """Both renormalised over the top k: nothing holds the student's tail."""
    log_q = F.log_softmax(student.gather(-1, answers.top), -1)
    log_p = F.log_softmax(answers.logits, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class TopOnly(AbstractUnitLoss):
    """One of the two, for a teacher of sparse answers."""

    name = "top_only"

    def __init__(self, form: str):
        super().__init__()
        self.form = {"zeroed": zeroed, "renormalised": renormalised}[form]

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        if not isinstance(teacher, SparseOutputs):
            raise RecipeError("top_only is for sparse answers.")
        return self.form(student.logits, teacher)


NAIVE: Mapping[str, Naive] = {}
"""None of them is the naive form of a registered objective: they are other losses."""
