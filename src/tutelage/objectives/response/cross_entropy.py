"""Cross entropy with the true labels: the term that asks no teacher.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer
Vision, 2015, arXiv:1512.00567 (label smoothing).
"""

import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.units import (
    class_numbers,
    enough_classes,
    given,
    number,
    raised,
)


def cross_entropy(student: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Negative log likelihood of the targets, of which a share is spread over all classes.

    .. math:: -\sum_c t_c \log q_c, \quad q = \sigma(z), \quad
        t = (1 - \epsilon) \, y + \frac{\epsilon}{C}

    Args:
        student: Logits ``(N, ..., C)``.
        targets: Class numbers ``(N, ...)``, or probabilities ``(N, ..., C)``. A negative number,
            or a row of zeros, is unlabelled.
        label_smoothing: The share, 0 to 1.

    Returns:
        Cross entropy of each unit, ``(N, ...)``, in nats; 0 where it is unlabelled.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
        >>> cross_entropy(z, torch.tensor([1, -1]))
        tensor([0.6931, 0.0000])
    """
    enough_classes(student, "ce")
    log_q = F.log_softmax(raised(student), dim=-1)
    if targets.is_floating_point():
        if targets.shape != log_q.shape:
            raise ShapeMismatch(
                f"ce needs probability targets of the logits' shape {tuple(log_q.shape)}, "
                f"got {tuple(targets.shape)}."
            )
        targets = targets.to(log_q.dtype)
        labelled = targets.sum(-1)
        hard = -(targets * log_q).sum(-1)
    else:
        targets = class_numbers(targets, student, "ce")
        labelled = (targets >= 0).to(log_q.dtype)
        chosen = log_q.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        hard = -chosen * labelled
    if label_smoothing == 0:
        return hard
    return (1 - label_smoothing) * hard - label_smoothing * log_q.mean(-1) * labelled


@register("objective", "ce")
class CrossEntropy(AbstractUnitLoss):
    r"""The true labels: cross entropy, mean over all units of the batch.

    .. math:: -\sum_c t_c \log q_c

    Unlabelled units (a negative class number, a row of zeros) add 0 and still count in the
    denominator, which is ``batch.count`` for every term: in a batch of which half is labelled
    the term is half as large, so its weight against the teacher's term is per example seen.

    Neighbours: `SoftTarget` asks the teacher instead. On text that a teacher wrote, this is
    sequence-level distillation (Kim, Rush: Sequence-Level Knowledge Distillation, 2016, arXiv
    1606.07947): let the teacher answer first (`tutelage.core.writing.Writer`), and learn from its
    answers as from any text.

    Suggested weight: 0.1 beside `SoftTarget` (RepDistiller, CIFAR-100), 0.5 is common on
    ImageNet; 1 beside DKD, DIST and features.

    Scale: mean over units; unlabelled ones add 0 and count.

    Args:
        label_smoothing: Share of every target that is spread over all classes, 0 to 1. A teacher
            trained with it gives poorer soft targets (arXiv:1906.02629).
    """

    name = "ce"
    needs_targets = True
    needs_teacher = False

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        self.label_smoothing = number(label_smoothing, "label_smoothing", self.name, least=0)
        if label_smoothing > 1:
            raise RecipeError(f"ce: label_smoothing must be 0 to 1, got {label_smoothing!r}.")

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        targets = given(batch.targets, self.name)
        return cross_entropy(student.logits, targets, self.label_smoothing)
