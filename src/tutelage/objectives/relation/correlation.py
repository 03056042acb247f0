"""Correlation congruence: how examples relate, as the paper has it and as RepDistiller has it.

Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang: Correlation Congruence for Knowledge Distillation, 2019,
arXiv:1904.01802.
"""

import math

import torch
from torch import Tensor, nn

from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.held import unbound
from tutelage.objectives.relation.abstract import AbstractRelation, cosines
from tutelage.objectives.units import number, paired, raised, whole


def taylor_correlations(features: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    r"""A Gaussian kernel between examples of unit length, by its Taylor series.

    .. math:: e^{-2 \gamma} \sum_{p=0}^{P} \frac{(2 \gamma)^p}{p!} \cos(x_i, x_j)^p
        \approx e^{-\gamma \|\hat x_i - \hat x_j\|^2}

    Args:
        features: ``(B, ...)``, flattened to x.
        gamma: Width of the kernel.
        order: P, at least 1.

    Returns:
        ``(B, B)``, without unit.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> taylor_correlations(x)[0, 1].item() == taylor_correlations(x)[1, 0].item()
        True
    """
    angle = cosines(features)
    series = torch.zeros_like(angle)
    for power in range(order, -1, -1):
        series = series * angle + (2 * gamma) ** power / math.factorial(power)
    return math.exp(-2 * gamma) * series


def correlation_congruence(
    student: Tensor,
    teacher: Tensor,
    gamma: float = 0.4,
    order: int = 2,
    *,
    squared: bool = False,
) -> Tensor:
    r"""Frobenius distance of correlations, over B².

    .. math:: \frac{1}{B^2} \|K^s - K^t\|_F, \quad \text{or squared:} \;
        \frac{1}{B^2} \|K^s - K^t\|_F^2, \quad K = taylor_correlations(x)

    Args:
        student: ``(B, ...)``.
        teacher: ``(B, ...)`` of any size of feature.
        gamma: Width of the kernel.
        order: Terms of the Taylor series after the constant one.
        squared: The paper's equation, with a gradient that fades at agreement.

    Returns:
        A scalar without unit; 0 for one example.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> bool(correlation_congruence(3 * x, x) < 1e-6)
        True
    """
    gap = taylor_correlations(student, gamma, order) - taylor_correlations(teacher, gamma, order)
    size = gap.square().sum()
    if not squared:
        some = size > 0
        size = torch.where(some, torch.where(some, size, 1.0).sqrt(), 0.0)
    return size / max(gap.numel(), 1)


def correlation_adjacent(student: Tensor, teacher: Tensor, neighbours: str = "all") -> Tensor:
    r"""Products of two examples' errors: RepDistiller's loss of this name.

    .. math:: \frac{1}{B - 1} \sum_{i < B} \sum_d |\Delta_{id}| |\Delta_{i+1,d}|, \quad
        \Delta = s - t \quad \text{(next)}; \qquad
        \frac{1}{B (B - 1)} \sum_{i \ne j} \sum_d |\Delta_{id}| |\Delta_{jd}| \quad \text{(all)}

    The second is the mean of the first over all orders of the batch, computed as
    ((sum of errors)² - sum of squares) without the B² pairs.

    Args:
        student: ``(B, ...)``.
        teacher: The same shape.
        neighbours: ``all`` or ``next``.

    Returns:
        A scalar in squared units of the feature; 0 for one example.

    Example:
        >>> s = torch.tensor([[1.0], [2.0], [4.0]])
        >>> correlation_adjacent(s, torch.zeros(3, 1), "next").item()
        5.0
    """
    student, teacher = paired(student, teacher, "cc_adjacent")
    error = (student - teacher).flatten(1).abs()
    count = len(error)
    if neighbours == "next":
        return (error[:-1] * error[1:]).sum() / max(count - 1, 1)
    both = error.sum(0).square().sum() - error.square().sum()
    return both / max(count * (count - 1), 1)


@register("objective", "cc")
class Correlation(AbstractRelation):
    r"""CC of the paper: kernel values between examples, as the teacher's features have them.

    .. math:: \frac{1}{B^2} \|K^s - K^t\|_F, \quad
        K_{ij} = e^{-2 \gamma} \sum_{p=0}^{P} \frac{(2 \gamma)^p}{p!} \cos(x_i, x_j)^p

    Neighbours: `CorrelationAdjacent` is another loss that is called CC. `Similarity` is nearly
    the case P = 1 with rows of unit length, `Probabilistic` compares rows as distributions.

    Suggested weight: 0.003 beside 1 of soft targets, on pooled features with linear layers of 128
    behind them (torchdistill, ImageNet).

    Scale: the norm over B², as in torchdistill; ``squared: true`` is the paper's equation and the
    mean squared error of other ports. The two have no constant factor between them.

    Deviations: features are brought to unit length here, for which the series is made; torchdistill
    leaves it to the model, where without it the values grow with the fourth power of features.
    No linear layers are put behind the features: kernels compare features of unlike width.

    Args:
        student: Student feature, ``(N, ...)``; None for logits.
        teacher: Teacher feature; None for logits.
        gamma: Width of the kernel.
        order: P, terms of the Taylor series after the constant one.
        squared: The paper's equation instead of the published code's.
    """

    name = "cc"

    def __init__(
        self,
        student: str | None = None,
        teacher: str | None = None,
        *,
        gamma: float = 0.4,
        order: int = 2,
        squared: bool = False,
    ):
        super().__init__(student, teacher)
        self.gamma = number(gamma, "gamma", self.name, above=0)
        self.order = whole(order, "order", self.name, least=1)
        self.squared = squared

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One value of all examples."""
        return correlation_congruence(
            student, teacher, self.gamma, self.order, squared=self.squared
        )


@register("objective", "cc_adjacent")
class CorrelationAdjacent(AbstractRelation):
    r"""CC of RepDistiller: examples whose errors are large in the same dimensions are costly.

    .. math:: \frac{1}{B (B - 1)} \sum_{i \ne j} \sum_d |\Delta_{id}| |\Delta_{jd}|, \quad
        \Delta = s - t

    Neighbours: `Correlation` is the paper's loss, and has nothing but the name in common with it;
    `Match` sums squares of the same errors.

    Suggested weight: 0.02 on the pooled last feature with ``width: 128`` (RepDistiller, CIFAR-100).

    Scale: a mean over pairs of examples of a sum over dimensions, as in RepDistiller.

    Deviations: RepDistiller takes the pairs that stand side by side in the batch
    (``neighbours: next``), so that the value depends on the order of examples; ``all`` is its
    mean over all orders: the same expectation without that noise.

    Traps: with ``width`` both embeddings learn, the teacher's too, and nothing but the other terms
    keeps them from agreeing on 0. An error is pulled down in proportion to the others' errors in
    its dimension: an example alone has no gradient.

    Args:
        student: Student feature, ``(N, ...)``; None for logits.
        teacher: Teacher feature of the same width, or of another where ``width`` is given; None
            for logits.
        width: Compare learned linear embeddings of this width; None compares as they are.
        neighbours: ``all`` pairs, or each example and the ``next``.
    """

    name = "cc_adjacent"

    def __init__(
        self,
        student: str | None = None,
        teacher: str | None = None,
        *,
        width: int | None = None,
        neighbours: str = "all",
    ):
        super().__init__(student, teacher)
        if neighbours not in ("all", "next"):
            raise RecipeError(
                f"{self.name}: neighbours must be 'all' or 'next', got {neighbours!r}."
            )
        self.width = None if width is None else whole(width, "width", self.name, least=1)
        self.neighbours = neighbours
        self.divergence = width is None
        self.embeddings = nn.ModuleList()

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make the two embeddings where ``width`` is given; those that fit stay as they are."""
        if self.width is None:
            return
        s = student[self.student] if self.student else student.logits
        t = teacher[self.teacher] if self.teacher else dense(teacher, self.name)
        both = [raised(feature).flatten(1) for feature in (s, t)]
        if [e.in_features for e in self.embeddings] != [f.shape[1] for f in both]:
            made = [nn.Linear(f.shape[1], self.width) for f in both]
            self.embeddings = nn.ModuleList(made)
        self.embeddings.to(both[0])

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One value of all examples."""
        if self.width is not None:
            if len(self.embeddings) == 0:
                raise unbound(self.name)
            student, teacher = self.embeddings[0](student), self.embeddings[1](teacher)
        return correlation_adjacent(student, teacher, self.neighbours)
