"""A sentence encoder without a teacher: two passes of dropout, each to find the other.

SimCSE: Simple Contrastive Learning of Sentence Embeddings, Gao, Yao, Chen, 2021 (arXiv 2104.08821).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, Terms
from tutelage.engine import Learner
from tutelage.engine.setting import Update
from tutelage.objectives import CrossEntropy
from tutelage.settings.self_taught import AbstractSelfTaught

TEMPERATURE = 0.05


def found_again(first: Tensor, second: Tensor) -> Tensor:
    """Cross entropy in nats of finding each text ``(N, D)`` among the second answers ``(N, D)``."""
    cosines = F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T
    return F.cross_entropy(cosines / TEMPERATURE, torch.arange(len(first)))


class TwoPasses(AbstractSelfTaught):
    """The paper's unsupervised form: the rest of the batch are the others."""

    def __init__(self, student: Learner):
        super().__init__(student, CrossEntropy())

    def begin(self, item: Batch, answer: Outputs) -> None:
        """Nothing is remembered."""

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update a batch."""
        yield Update(self.student, self.compare, item)

    def compare(self, batch: Batch) -> Terms:
        """Both passes are trained."""
        first, second = self.student(batch).logits, self.student(batch).logits
        return {"found_again": found_again(first, second)}
