"""Logits from every depth: exits of the student answer as the teacher does, the target enhanced.

Hao, Guo, Han, Tang, Hu, Wang, Xu: One-for-All: Bridge the Gap Between Heterogeneous Architectures
in Knowledge Distillation, 2023, arXiv:2310.19444.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.adapters.pooling import Pool
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.held import unbound
from tutelage.objectives.units import class_numbers, number, paired_logits


def enhanced_target(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    eps: float = 1.5,
    temperature: float = 1.0,
) -> Tensor:
    r"""Soft cross entropy in which the target weighs more, the less sure the teacher is of others.

    .. math:: -\big[ (1 + p_y)^\epsilon - 1 \big] \log q_y
        - \sum_{c \ne y} p_c^\epsilon \log q_c

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same shape.
        targets: Class numbers ``(N, ...)``; where negative, no class is enhanced.
        eps: Of at least 1; at 1 it is plain soft cross entropy, and targets change nothing.
        temperature: T > 0, of both softmaxes.

    Returns:
        Value of each unit, ``(N, ...)``, in nats. It is not 0 at agreement.

    Raises:
        ShapeMismatch: The shapes differ, or there are fewer than two classes.

    Example:
        >>> z, y = torch.zeros(1, 2), torch.tensor([0])
        >>> enhanced_target(z, z, y, eps=1.0).item()
        0.693...
    """
    student, teacher = paired_logits(student, teacher, "ofa")
    targets = class_numbers(targets, student, "ofa")
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    index = targets.clamp(min=0).unsqueeze(-1)
    is_target = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, index, True)
    is_target = is_target & (targets >= 0).unsqueeze(-1)
    enhanced = (eps * log_p.exp().log1p()).expm1()
    weights = torch.where(is_target, enhanced, (eps * log_p).exp())
    return -(weights * log_q).sum(-1)


@register("objective", "ofa")
class OneForAll(AbstractUnitLoss):
    r"""OFA: student and teacher of different kinds meet in logits, at the end and at exits.

    .. math:: L(z) + w \sum_e L(h_e(f_e)), \quad
        L = -\sum_c \big[ (p_c + 1_{c=y})^\epsilon - 1_{c=y} \big] \log q_c \quad
        (enhanced\_target)

    Each exit has a head of its own, made in `bind`: the mean over positions, and a linear layer.
    Heads are thrown away with the objective.

    Neighbours: `SoftTarget` at T = 1 is the last term at eps 1; `Match` compares features, which
    architectures of different kinds do not share.

    Suggested weight: 1 beside 1 of cross entropy with eps = 1.5 (the authors, ImageNet ResNet-18
    from DeiT-T; 1.0 from Swin-T on CIFAR-100), exits after all four stages.

    Scale: sum over classes, mean over units, as in the authors' code; no T squared. It is a cross
    entropy: agreement is not 0.

    Deviations: the authors' heads are convolutions, or merging and transformer blocks, down to the
    last stage's size; ours pool and map. Where their ``log(softmax)`` is infinite, from a logit
    gap of some 100 on, this is exact.

    Args:
        exits: Student features that get a head; none leaves the final logits alone.
        eps: Of at least 1: larger trusts the label more where the teacher does.
        exit_weight: w, the weight of every exit.
        temperature: T > 0.
    """

    name = "ofa"
    needs_targets = True
    example: ClassVar[Mapping[str, Any]] = {"exits": ["feature"]}

    def __init__(
        self,
        exits: Sequence[str] = (),
        eps: float = 1.5,
        exit_weight: float = 1.0,
        temperature: float = 1.0,
    ):
        super().__init__()
        listed = isinstance(exits, (list, tuple)) and all(isinstance(e, str) and e for e in exits)
        if not listed or len(set(exits)) < len(exits):
            raise RecipeError(
                f"ofa: exits must be different student features, such as [layer1, layer2], got "
                f"{exits!r}."
            )
        self.exits = list(exits)
        self.taps = (self.exits, [])
        self.needs_features = bool(exits)
        self.eps = number(eps, "eps", self.name, least=1)
        self.exit_weight = number(exit_weight, "exit_weight", self.name, above=0)
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.heads = nn.ModuleDict()

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make one head an exit, or keep one that fits.

        Raises:
            ShapeMismatch: A feature is neither vectors, tokens nor maps.
        """
        student = student.float()
        classes = dense(teacher, self.name).shape[-1]
        for path in self.exits:
            feature, key = student[path], path.replace(".", "/")
            if not (key in self.heads and _fits(self.heads[key], feature, classes)):
                head = _head(feature, classes, path)
                self.heads[key] = head.to(device=feature.device, dtype=feature.dtype)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        if len(self.heads) < len(self.exits):
            raise unbound("ofa")
        answers = dense(teacher, self.name)
        targets = class_numbers(batch.targets, student.logits, self.name)
        value = enhanced_target(student.logits, answers, targets, self.eps, self.temperature)
        for path in self.exits:
            logits = self.heads[path.replace(".", "/")](student[path])
            early = enhanced_target(logits, answers, targets, self.eps, self.temperature)
            value = value + self.exit_weight * early
        return value


def _head(feature: Tensor, classes: int, path: str) -> nn.Module:
    """From a feature to logits: its mean over positions, and a linear layer."""
    if feature.ndim == 2:
        return nn.Linear(feature.shape[1], classes)
    if feature.ndim not in (3, 4):
        raise ShapeMismatch(
            f"ofa puts an exit on vectors (N, D), tokens (N, T, D) or maps (N, C, H, W), and "
            f"{path!r} has shape {tuple(feature.shape)}: choose another feature."
        )
    return Pool(feature.shape[1 if feature.ndim == 4 else 2], classes)


def _fits(head: nn.Module, feature: Tensor, classes: int) -> bool:
    """Whether a head that is there leads from this feature to as many classes."""
    head.to(device=feature.device, dtype=feature.dtype)
    try:
        with torch.no_grad():
            return bool(head(feature).shape == (len(feature), classes))
    except (RuntimeError, IndexError):
        return False
