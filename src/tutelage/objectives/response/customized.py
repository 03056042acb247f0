"""Soft labels that the student makes for itself: smoothed for the target, by rank for the others.

Yang, Zeng, Li, Zhang, Yuan, Li: From Knowledge Distillation to Self-Knowledge Distillation: A
Unified Approach with Normalized Loss and Customized Soft Labels, 2023, arXiv:2303.13005.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import build, register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.held import unbound
from tutelage.objectives.response.apart import log_others
from tutelage.objectives.response.cross_entropy import cross_entropy
from tutelage.objectives.units import (
    class_numbers,
    counted_examples,
    counted_units,
    enough_classes,
    number,
    paired_logits,
    raised,
)

Form = Literal["intended", "official"]


def zipf_shares(
    student: Tensor, index: Tensor, weak: Tensor | None = None, form: Form = "intended"
) -> Tensor:
    r"""Soft labels of the classes that are not the target, by rank alone.

    .. math:: z_k = \frac{1 / r_k}{\sum_{j \ne y} 1 / r_j}, \quad
        r = \text{rank of } \hat q_k + \hat w_k \text{ among } k \ne y, \text{ the largest first}

    Args:
        student: Logits ``(N, ..., C)``.
        index: Class numbers y of the targets, ``(N, ...)``.
        weak: Logits of an earlier layer, of the same shape; None ranks by the student's own.
        form: ``official`` as the authors' code ranks: the student's log-probabilities stand where
            its probabilities should, and the target takes a rank of its own.

    Returns:
        ``(N, ..., C)``, of sum 1, 0 at the target; without gradient.

    Example:
        >>> zipf_shares(torch.tensor([[5.0, 1.0, 3.0, 2.0]]), torch.tensor([0]))
        tensor([[0.0000, 0.1818, 0.5455, 0.2727]])
    """
    at = index.unsqueeze(-1)
    student = student.detach()
    if form == "official":
        log_q = F.log_softmax(student, dim=-1)
        score = log_q / (1 - log_q.gather(-1, at) + 1e-6)
        if weak is not None:
            w = F.softmax(weak.detach(), dim=-1)
            score = score + w / (1 - w.gather(-1, at) + 1e-6)
    else:
        score = log_others(student, index).exp()
        if weak is not None:
            score = score + log_others(weak.detach(), index).exp()
        score = score.scatter(-1, at, -1.0)  # the last of all ranks, which is then left out
    order = score.argsort(dim=-1, descending=True, stable=True)
    by_rank = 1 / torch.arange(1, score.shape[-1] + 1, device=score.device, dtype=score.dtype)
    shares = torch.zeros_like(score).scatter(-1, order, by_rank.expand_as(score))
    shares = shares.scatter(-1, at, 0.0)
    return shares / shares.sum(-1, keepdim=True)


def customized_label(
    student: Tensor, targets: Tensor, weak: Tensor | None = None, form: Form = "intended"
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The three parts of USKD.

    .. math:: L_{target} = -\Big(1 + q_y^2 - \tfrac{1}{B} \sum_b q_{b,y}^2\Big) \log q_y, \quad
        L_{others} = -\sum_{k \ne y} z_k \log \hat q_k, \quad
        L_{weak} = CE_{0.1}(w, y)

    The bracket and the shares z (`zipf_shares`) are labels, without gradient; the hat means
    renormalised without class y; the last is cross entropy of the weak logits, smoothed by 0.1.

    Args:
        student: Logits ``(N, ..., C)``; the mean is over all labelled units.
        targets: Class numbers ``(N, ...)``, negative for unlabelled.
        weak: Logits of an earlier layer, of the same shape; None makes the third part 0.
        form: How the others are ranked, see `zipf_shares`.

    Returns:
        The three of each unit, each ``(N, ...)``, in nats; 0 where it is unlabelled.

    Example:
        >>> target, others, weak = customized_label(torch.zeros(2, 3), torch.tensor([0, 2]))
        >>> target, others  # log(3), log(2): equal answers have nothing to smooth
        (tensor([1.0986, 1.0986]), tensor([0.6931, 0.6931]))
    """
    enough_classes(student, "uskd")
    student = raised(student)
    targets = class_numbers(targets, student, "uskd")
    index = targets.clamp(min=0)
    labelled = (targets >= 0).to(student.dtype)
    log_target = F.log_softmax(student, dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
    squares = (2 * log_target.detach()).exp()
    mean = (squares * labelled).sum() / labelled.sum().clamp(min=1)
    target = -(1 + squares - mean) * log_target * labelled
    supervised = torch.zeros_like(target)
    if weak is not None:
        _, weak = paired_logits(student, weak, "uskd")
        supervised = cross_entropy(weak, targets, 0.1)
    shares = zipf_shares(student, index, weak, form)
    others = -(shares * log_others(student, index)).sum(-1)
    return target, others * labelled, supervised


@register("objective", "uskd")
class CustomizedLabel(AbstractLoss):
    r"""USKD: the student's own soft labels, smoothed for the target and by rank for the others.

    .. math:: \alpha L_{target} + \beta L_{others} + \mu L_{weak} \quad (customized\_label)

    Neighbours: `NormalizedTarget` takes both labels from a teacher; `VirtualTeacher` has equal
    labels for all other classes. Put it beside `CrossEntropy`.

    Suggested weight: 1 beside 1 of cross entropy, with alpha = 1, beta = 0.1, mu = 0.005 (the
    authors' code, convolutional networks on ImageNet).

    Scale: as the authors' code: sums over classes, mean over examples. The mean of the squares is
    over the batch at hand, so cutting the batch changes the value.

    Deviations: `form: intended` ranks the others by the sum of normalised probabilities, ranks 1
    to C - 1. The authors' code (`official`) has overwritten the student's probabilities with
    their logarithms by then, and ranks the target too, so that the likeliest other class usually
    gets 1/2. Without `weak` the student's own logits rank alone and the weak part is absent.
    Mixed examples are refused.

    Args:
        weak: Feature of an earlier layer of the student, from which a linear classifier of this
            objective (over the mean of all positions) gives the weak logits; None for none.
        alpha: Weight of the target's part.
        beta: Weight of the others' part.
        mu: Weight of the weak logits' cross entropy, which trains their classifier.
        form: ``intended`` or ``official``.
    """

    name = "uskd"
    needs_targets = True
    needs_teacher = False
    batchwise = True
    example: ClassVar[Mapping[str, Any]] = {"weak": "feature"}
    classifier: nn.Module | None

    def __init__(
        self,
        weak: str | None = None,
        alpha: float = 1.0,
        beta: float = 0.1,
        mu: float = 0.005,
        form: Form = "intended",
    ):
        super().__init__()
        self.weak = weak
        self.alpha = number(alpha, "alpha", self.name, least=0)
        self.beta = number(beta, "beta", self.name, least=0)
        self.mu = number(mu, "mu", self.name, above=0)
        if form not in ("intended", "official"):
            raise RecipeError(f"uskd: form must be 'intended' or 'official', got {form!r}.")
        self.form: Form = form
        self.taps = ([weak] if weak else [], [])
        self.register_module("classifier", None)

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make the weak classifier, unless there is one that fits."""
        if self.weak is None:
            return
        student = student.float()
        feature, logits = student[self.weak], student.logits
        if logits.ndim != 2:
            raise ShapeMismatch(
                f"uskd with a weak feature needs logits (N, C), and got {tuple(logits.shape)}: "
                "leave weak out."
            )
        if self.classifier is not None:
            self.classifier.to(device=feature.device, dtype=feature.dtype)
            try:
                with torch.no_grad():
                    if self.classifier(feature).shape == logits.shape:
                        return
            except RuntimeError:  # made for a feature of another shape
                pass
        made: nn.Module = build("adapter", "auto", student=feature, teacher=logits)
        self.classifier = made.to(device=feature.device, dtype=feature.dtype)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value of the whole batch."""
        targets = class_numbers(batch.targets, student.logits, self.name)
        target, others, weak = customized_label(
            counted_units(student.logits, batch, self.name),
            counted_units(targets.unsqueeze(-1), batch, self.name).squeeze(-1),
            self._weak_logits(student, batch),
            self.form,
        )
        values = self.alpha * target + self.beta * others + self.mu * weak
        return values.sum() / max(values.numel(), 1)

    def _weak_logits(self, student: Outputs, batch: Batch) -> Tensor | None:
        if self.weak is None:
            return None
        feature = student[self.weak]
        if self.classifier is None:
            raise unbound("uskd")
        logits: Tensor = self.classifier(feature)
        return counted_examples(logits, batch, self.name)
