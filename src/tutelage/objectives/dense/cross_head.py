"""Cross-head distillation: the student's features answer through the teacher's head.

Wang, Chen, Zheng, Li, Cheng, Hou: CrossKD: Cross-Head Knowledge Distillation for Object Detection,
2023, arXiv:2306.11369.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.held import unbound
from tutelage.objectives.units import number, paired, paired_logits, whole

Distance = Literal["kl", "quality_focal", "mse"]
"""What predictions are compared by."""


def quality_focal(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    r"""Cross entropy of each class's yes or no, weighted by how far the student is off.

    .. math:: \sum_c |\sigma(t_c) - \sigma(s_c)|^\beta \, BCE\big(\sigma(s_c), \sigma(t_c)\big)

    Args:
        student: Logits ``(..., C)``, one sigmoid a class.
        teacher: The same shape.
        beta: At least 0; larger leaves what is nearly right alone.

    Returns:
        ``(...)``, in nats; 0 where the two agree, if beta is not 0.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, -2.0]])
        >>> quality_focal(z, z).item()
        0.0
    """
    student, teacher = paired(student, teacher, "crosskd")
    target = teacher.sigmoid()
    off = (target - student.sigmoid()).abs()
    entropy = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    return ((off if beta == 1 else off.clamp(min=1e-12) ** beta) * entropy).sum(-1)


def predictions_apart(
    student: Tensor, teacher: Tensor, distance: Distance = "kl", *, degree: float = 1.0
) -> Tensor:
    r"""How far predictions are apart, summed over classes.

    .. math:: T^2 KL\big(\sigma(t / T) \| \sigma(s / T)\big), \quad \text{quality focal}, \quad
        \text{or} \quad \|s - t\|_2^2

    Args:
        student: Predictions ``(..., C)``.
        teacher: The same shape.
        distance: ``kl``, ``quality_focal`` (see `quality_focal`) or ``mse``.
        degree: T of ``kl``, beta of ``quality_focal``.

    Returns:
        ``(...)``, in nats, or squared units for ``mse``.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 3.0]])
        >>> predictions_apart(z + 1, z, "mse").item(), predictions_apart(z + 1, z).item()
        (2.0, 0.0)
    """
    if distance == "quality_focal":
        return quality_focal(student, teacher, degree)
    if distance == "mse":
        student, teacher = paired(student, teacher, "crosskd")
        return (student - teacher).square().sum(-1)
    student, teacher = paired_logits(student, teacher, "crosskd")
    log_q = F.log_softmax(student / degree, dim=-1)
    log_p = F.log_softmax(teacher / degree, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1) * degree**2


@register("objective", "crosskd")
class CrossHead(AbstractUnitLoss):
    r"""CrossKD: the student's feature, through the rest of the teacher's head, gives its answer.

    .. math:: D\big(h_t(f_s), \, z_t\big), \quad \text{mean over units}

    where f_s is the student's feature in the middle of its head, h_t the layers of the teacher's
    head behind that place, and z_t the teacher's prediction. The student's own prediction learns
    from the labels alone, so the two kinds of targets never pull at one number. Gradients pass
    through the teacher's layers to the student; nothing else learns.

    Neighbours: `SoftTarget` compares the student's own prediction, `Match` the features.
    `Localization` is the usual distance for a box branch, here ``kl`` with ``bins``.

    Suggested weight: 1 with ``quality_focal`` on classes, and 3 with ``kl`` at T = 1 on the
    distributions of box edges, behind the third of four convolutions (the authors' GFL files on
    COCO, which name a GIoU term on boxes besides).

    Scale: summed over classes or bins, and over the edges of a box, mean over all units: examples,
    or positions of a map. The authors divide by the number of positive anchors' weights instead.

    Traps: the distance is 0 where the teacher's head gives the teacher's prediction on the
    student's feature; the student's logits may still be anything.

    Args:
        student: Student feature that the teacher's layers read in place of their own.
        head: Path of the teacher's module, or of several that run one after the other.
        teacher: The teacher's prediction: a feature; None for its logits.
        distance: ``kl``, ``quality_focal`` or ``mse``.
        degree: T of ``kl``, beta of ``quality_focal``.
        bins: Where predictions are several distributions of that many numbers (box edges); None
            for one.
        width: How many channels the teacher's layers read, where the student has another number:
            a 1x1 convolution (linear layer) is then learned in front. None for equal ones.
    """

    name = "crosskd"
    needs_features = True
    example: ClassVar[Mapping[str, Any]] = {"student": "feature", "head": "head"}

    def __init__(
        self,
        student: str,
        head: str | Sequence[str],
        teacher: str | None = None,
        distance: Distance = "kl",
        degree: float = 1.0,
        bins: int | None = None,
        width: int | None = None,
    ):
        super().__init__()
        self.heads = [head] if isinstance(head, str) else list(head)
        if not self.heads or not all(isinstance(path, str) and path for path in self.heads):
            raise RecipeError(
                f"{self.name}: head must be the path of a module of the teacher, or several, got "
                f"{head!r}."
            )
        if distance not in get_args(Distance):
            raise RecipeError(
                f"{self.name}: distance must be one of {', '.join(get_args(Distance))}, got "
                f"{distance!r}."
            )
        self.student, self.teacher, self.distance = student, teacher, distance
        self.degree = number(degree, "degree", self.name, above=0)
        self.bins = None if bins is None else whole(bins, "bins", self.name, least=2)
        self.width = None if width is None else whole(width, "width", self.name, least=1)
        self.taps = ([student], [teacher] if teacher else [])
        self.borrows = ((), self.heads)
        self.adapter: nn.Conv2d | nn.Linear | None = None

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make what widens the student's feature, once, from torch's random state."""
        feature = student.float()[self.student]
        if self.width is None:
            return
        maps = feature.ndim == 4
        channels = feature.shape[1 if maps else -1]
        if self.adapter is None or self.adapter.weight.shape[:2] != (self.width, channels):
            made = nn.Conv2d(channels, self.width, 1) if maps else nn.Linear(channels, self.width)
            self.adapter = made.to(device=feature.device, dtype=feature.dtype)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value an example, or a position."""
        feature = student[self.student]
        if self.width is not None:
            if self.adapter is None:
                raise unbound(self.name)
            feature = self.adapter(feature)
        ours = _classes_last(self._through(feature))
        # Logits have their classes last already.
        theirs = _classes_last(teacher[self.teacher]) if self.teacher else dense(teacher, self.name)
        if self.bins is not None:
            ours, theirs = _distributions(ours, self.bins), _distributions(theirs, self.bins)
        found = predictions_apart(ours, theirs, self.distance, degree=self.degree)
        return found if self.bins is None else found.sum(-1)

    def _through(self, feature: Tensor) -> Tensor:
        """The teacher's layers on a student's feature."""
        shape = tuple(feature.shape)
        for path in self.heads:
            module = self.lent.teacher(path)
            weight = next(module.parameters(), feature)
            try:
                feature = module(feature.to(weight.dtype))
            except (RuntimeError, ValueError) as error:
                raise ShapeMismatch(
                    f"{self.name}: the teacher's {path!r} does not take the student's "
                    f"{self.student!r} {shape}: set width to the channels that it reads, or "
                    "choose features of one size."
                ) from error
        return feature


def _classes_last(prediction: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, H, W, C)``."""
    return prediction.movedim(1, -1) if prediction.ndim == 4 else prediction


def _distributions(prediction: Tensor, bins: int) -> Tensor:
    """``(..., edges * bins)`` -> ``(..., edges, bins)``."""
    if prediction.shape[-1] % bins:
        raise ShapeMismatch(
            f"crosskd cannot cut {prediction.shape[-1]} numbers into distributions of {bins} bins: "
            "set bins to what the head predicts for one edge."
        )
    return prediction.reshape(*prediction.shape[:-1], prediction.shape[-1] // bins, bins)
