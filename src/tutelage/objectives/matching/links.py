"""Each teacher layer attends to the student's layers, and all pairs learn by their links.

Ji, Heo, Park: Show, Attend and Distill: Knowledge Distillation via Attention-based Feature
Matching, 2021, arXiv:2102.02973.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.attention.transfer import attention_map
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.held import unbound
from tutelage.objectives.matching.abstract import layers_of, matched
from tutelage.objectives.units import raised, whole


def map_distances(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    r"""Mean squared differences of all pairs of attention maps, at the teacher's sizes.

    .. math:: \frac{1}{HW} \sum_{hw} \big(\tilde m^{s_i}_{hw} - \tilde m^{t_j}_{hw}\big)^2

    where m is the mean square over channels, the student's pooled to the size of the teacher's,
    and the tilde means unit (L2) length over positions.

    Args:
        student: S maps ``(N, C, H, W)`` of any sizes.
        teacher: T maps, likewise.

    Returns:
        ``(S, T, N)``, without unit.

    Raises:
        ShapeMismatch: One is no map, or a teacher's has one position.

    Example:
        >>> maps = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
        >>> map_distances(maps, maps).shape, map_distances(maps, maps)[0, 0].tolist()
        (torch.Size([2, 2, 2]), [0.0, 0.0])
    """
    for feature in student:
        if feature.ndim != 4:
            raise ShapeMismatch(
                f"afd needs maps (N, C, H, W), and got {tuple(feature.shape)} from the student: "
                "choose other features, or use 'semckd'."
            )
    theirs = [attention_map(feature) for feature in teacher]
    energies = [raised(feature).square().mean(1, keepdim=True) for feature in student]
    sizes = [(feature.shape[2], feature.shape[3]) for feature in teacher]
    pooled = {  # once a size, not once a pair
        size: torch.stack(
            [F.normalize(F.adaptive_avg_pool2d(e, size).flatten(1), dim=1) for e in energies]
        )
        for size in dict.fromkeys(sizes)
    }
    found = [
        (pooled[size] - wanted).square().mean(2) for size, wanted in zip(sizes, theirs, strict=True)
    ]
    return torch.stack(found, dim=1)


def link_strengths(queries: Tensor, keys: Tensor, places: Tensor) -> Tensor:
    r"""How much each teacher layer attends to each student layer.

    .. math:: \alpha_{ij} = \mathrm{softmax}_i \frac{q_j \cdot k_{ij} + p_{ij}}{\sqrt D}

    Args:
        queries: Of the teacher's layers, ``(T, N, D)``.
        keys: Of the student's layers, one for each of the teacher's, ``(S, T, N, D)``.
        places: p, ``(S, T)``, what does not depend on the example.

    Returns:
        ``(S, T, N)``; sums to 1 over the student's layers.

    Example:
        >>> link_strengths(torch.rand(1, 1, 4), torch.zeros(2, 1, 1, 4), torch.zeros(2, 1)).tolist()
        [[[0.5]], [[0.5]]]
    """
    alike = torch.einsum("tnd,stnd->stn", queries, keys) + places[..., None]
    return torch.softmax(alike / queries.shape[-1] ** 0.5, dim=0)


class _Read(nn.Module):
    """The mean of a map over positions, as a vector of unit variance."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.linear = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, width)``."""
        read: Tensor = self.norm(self.linear(feature.mean((2, 3))))
        return read


@register("objective", "afd")
class AttentionLinks(AbstractUnitLoss):
    r"""AFD: all pairs of layers compare where they look, each as much as it is linked.

    .. math:: \sum_j \sum_i \alpha_{ij} \, \frac{1}{H_j W_j}
        \big\| \tilde m^{s_i} - \tilde m^{t_j} \big\|_2^2 \quad (map\_distances), \quad
        \alpha \text{ as in } link\_strengths

    with queries of the teacher's layers and keys of the student's, read from maps averaged over
    positions, and k_ij = W_j k_i a learned map for each teacher layer.

    Neighbours: `SemanticMatch` has the softmax over the teacher's layers and compares channels
    too; `Attention` is this with links that are given; `MatchTutor` lets each student layer choose.

    Suggested weight: 200 beside 0.9 of soft targets at T = 4 and 0.1 of cross entropy (the authors'
    default, CIFAR-100, WRN-40-2 to WRN-16-2).

    Scale: the authors' code: mean over positions, sum over the teacher's layers. The paper writes
    the unsquared norm.

    Deviations: LayerNorm in place of the BatchNorm of queries and keys, so that one example is
    enough and examples do not depend on each other; none after W. W has no bias: it would cancel
    in the softmax.

    Args:
        student: Features of the student, maps, two or more.
        teacher: Features of the teacher, maps.
        width: D, numbers in a query or key, at least 1.
    """

    name = "afd"
    needs_features = True
    example: ClassVar[Mapping[str, Any]] = {
        "student": ["first", "second", "third"],
        "teacher": ["first", "second"],
    }

    def __init__(self, student: Sequence[str], teacher: Sequence[str], *, width: int = 128):
        super().__init__()
        self.taps = (
            layers_of(student, "student", self.name, 2),
            layers_of(teacher, "teacher", self.name),
        )
        self.width = whole(width, "width", self.name)
        self.queries, self.keys = nn.ModuleList(), nn.ModuleList()
        self.across = nn.Linear(self.width, self.width * len(self.taps[1]), bias=False)
        self.student_places = nn.Parameter(torch.empty(len(self.taps[0]), self.width))
        self.teacher_places = nn.Parameter(torch.empty(len(self.taps[1]), self.width))

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make what reads the layers, where it does not fit already.

        Raises:
            ShapeMismatch: A feature is no map.
        """
        ours, theirs = self._maps(student.float(), teacher.float())
        map_distances(ours, theirs)
        if not all(map(_fits, (*self.queries, *self.keys), (*theirs, *ours))) or not self.queries:
            self.queries = nn.ModuleList(_Read(t.shape[1], self.width) for t in theirs)
            self.keys = nn.ModuleList(_Read(s.shape[1], self.width) for s in ours)
            self.across.reset_parameters()
            nn.init.xavier_normal_(self.student_places)
            nn.init.xavier_normal_(self.teacher_places)
        self.to(device=ours[0].device, dtype=ours[0].dtype)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """All pairs by their links, ``(N,)``."""
        if not self.queries:
            raise unbound("afd")
        ours, theirs = self._maps(student, teacher)
        return matched(self.strengths(ours, theirs), map_distances(ours, theirs))

    def strengths(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The links of these maps, ``(S, T, N)``."""
        queries = torch.stack([q(t) for q, t in zip(self.queries, teacher, strict=True)])
        keys = torch.stack([F.relu(k(s)) for k, s in zip(self.keys, student, strict=True)])
        across = self.across(keys).unflatten(2, (len(teacher), self.width)).transpose(1, 2)
        return link_strengths(queries, across, self.student_places @ self.teacher_places.T)

    def _maps(self, student: Outputs, teacher: Outputs) -> tuple[list[Tensor], list[Tensor]]:
        return [student[p] for p in self.taps[0]], [teacher[p] for p in self.taps[1]]


def _fits(read: nn.Module, feature: Tensor) -> bool:
    return isinstance(read, _Read) and read.linear.in_features == feature.shape[1]
