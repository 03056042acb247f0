"""Layers matched by optimal transport: many to many, at the least cost.

Li, Liu, Zhao, Xu, Yang, Jin: BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth
Mover's Distance, 2020, arXiv:2010.06133.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import NotInstalled, RecipeError
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.matching.abstract import AbstractMatch, mean_distances
from tutelage.objectives.paired import Adapter
from tutelage.objectives.units import number


def transport_plan(costs: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    r"""The cheapest way to move the student's layers onto the teacher's, exactly.

    .. math:: \min_{P \ge 0} \sum_{ij} P_{ij} C_{ij} \quad
        \text{with} \quad \sum_j P_{ij} = w^s_i, \quad \sum_i P_{ij} = w^t_j

    Args:
        costs: C, ``(S, T)``.
        student: w of the student's layers, ``(S,)``, scaled to a sum of 1.
        teacher: w of the teacher's layers, ``(T,)``, likewise.

    Returns:
        P, ``(S, T)`` of float64 on the costs' device, without a gradient; its sums are right to
        1e-8. Where a cost is not finite, no plan is best, and each pair gets the product.

    Raises:
        NotInstalled: The library POT is not here.

    Example:
        >>> costs = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> transport_plan(costs, torch.ones(2), torch.ones(2)).tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """
    # On the CPU in double precision: there is no other exact solver, and no other sum of 1.
    c, ours, theirs = (t.detach().double().cpu() for t in (costs, student, teacher))
    ours, theirs = ours / ours.sum(), theirs / theirs.sum()
    plan = torch.outer(ours, theirs)
    if bool(c.isfinite().all()):
        found = solver().emd(ours.numpy(), theirs.numpy(), c.numpy())
        plan = torch.from_numpy(found)
    return plan.to(costs.device)


def cost_attention(
    plan: Tensor, costs: Tensor, weights: Tensor, temperature: float | None = 1.0
) -> Tensor:
    r"""New weights of one network's layers: those that are cheap to match count more.

    .. math:: \bar c_i = \frac{1}{w_i} \sum_j P_{ij} C_{ij}, \quad
        w_i \leftarrow \mathrm{softmax}_i \Big( \frac{1}{\tau} \,
        \frac{\sum_k \bar c_k}{\bar c_i} \Big)

    Args:
        plan: P, ``(S, T)``; transposed for the teacher's layers.
        costs: C, ``(S, T)``; likewise.
        weights: w, ``(S,)``.
        temperature: τ > 0; None divides the ratios by their sum instead, as the authors' later
            code does.

    Returns:
        ``(S,)``, with a sum of 1; equal where no layer costs anything. A layer that costs less than
        a millionth of the mean counts as one that costs that, which the paper leaves open.

    Example:
        >>> even = torch.tensor([0.5, 0.5])
        >>> cost_attention(torch.eye(2) / 2, torch.tensor([[1.0, 9.0], [9.0, 3.0]]), even, None)
        tensor([0.7500, 0.2500])
    """
    spent = (plan * costs).sum(1) / weights.clamp(min=torch.finfo(weights.dtype).tiny)
    # A layer that costs nothing would take all: its cost counts as a millionth of the mean.
    spent = spent.clamp(min=1e-6 * float(spent.mean()))
    ratio = torch.where(spent > 0, spent.sum() / spent, torch.ones_like(spent))
    return ratio / ratio.sum() if temperature is None else (ratio / temperature).softmax(0)


def moved_weights(
    plan: Tensor,
    costs: Tensor,
    weights: tuple[Tensor, Tensor],
    temperature: float | None,
    floor: float = 0.0,
) -> list[Tensor]:
    """Both networks' layers weighed anew by `cost_attention`.

    Args:
        plan: P, ``(S, T)``.
        costs: C, ``(S, T)``.
        weights: The student's ``(S,)`` and the teacher's ``(T,)`` before.
        temperature: See `cost_attention`.
        floor: Least weight of a layer, as a share of an equal one.

    Returns:
        Both in float64; as they were where a cost is not finite.

    Example:
        >>> even = torch.tensor([0.5, 0.5])
        >>> costs = torch.tensor([[1.0, 9.0], [9.0, 3.0]])
        >>> moved_weights(torch.eye(2) / 2, costs, (even, even), None)[0].tolist()
        [0.75, 0.25]
    """
    if not bool(costs.isfinite().all()):
        return [each.double() for each in weights]
    found = []
    for p, c, old in ((plan, costs, weights[0]), (plan.T, costs.T, weights[1])):
        new = cost_attention(p, c.double(), old.double(), temperature)
        found.append(floor / len(new) + (1 - floor) * new)
    return found


def solver() -> ModuleType:
    """The library that solves the transport problem.

    Raises:
        NotInstalled: It is not here.
    """
    try:
        import ot
    except ImportError as error:
        raise NotInstalled(
            'layers matched by transport need the library POT: pip install "tutelage[search]".'
        ) from error
    found: ModuleType = ot
    return found


@register("objective", "match_emd")
class MatchTransport(AbstractMatch):
    r"""BERT-EMD: the earth mover's distance between both networks' layers.

    .. math:: \sum_{ij} P^*_{ij} \, C_{ij}, \quad
        C_{ij} = \mathrm{mean} \, \big(a_{ij}(s_i) - t_j\big)^2

    where P* is the `transport_plan` between the layers' weights, made anew for every batch; it
    carries no gradient, so that the gradient of the value over C is P*. After each update
    `cost_attention` moves the weights towards layers that match cheaply.

    Neighbours: `MatchLayers` fixes P by the order of layers; `SemanticMatch` and `MatchTutor`
    learn it by gradient. Insensitive to a wrong order of the layers, which a fixed map is not.

    Suggested weight: 0.005 (the authors take 0.001 to 0.005 on hidden states of BERT, GLUE).

    Scale: that of the paper for one kind of knowledge (hidden states; it adds attention maps,
    embeddings and logits under other weights). P sums to 1, so the number of layers cancels.

    Deviations: plan and costs are of the batch's mean, as published, so it is batchwise; layers
    keep a least weight, as those that reach 0 never come back (``floor: 0`` for the paper's).

    Traps: where the teacher's layers differ in shape, an adapter of a pair that nothing is moved
    between gets no gradient in that step. Each step waits for a solver on the CPU (0.3 ms for 4
    to 12 layers), and the device with it. The plan jumps from corner to corner as costs change.

    Args:
        student: Features of the student, first layers first.
        teacher: Features of the teacher, first layers first.
        temperature: τ of the cost attention, greater than 0 (the authors try 1 to 10); None for
            the plain ratio of their later code.
        floor: Least weight of a layer, as a share of an equal one, 0 to 1; 1 keeps all equal.
        distance: ``mse``, ``smooth_l1``, ``cosine``, or ``attention`` (maps without channels).
        adapter: As of `Match`; there is one for each student layer, shared by the teacher's layers
            of one shape.
    """

    name = "match_emd"
    batchwise = True
    # Enough layers for batches to differ in their plans.
    example: ClassVar[Mapping[str, Any]] = {
        "student": ["first", "second", "third", "fourth"],
        "teacher": ["first", "second", "third", "fourth", "fifth", "sixth"],
    }
    student_weights: Tensor
    teacher_weights: Tensor

    def __init__(
        self,
        student: Sequence[str],
        teacher: Sequence[str],
        *,
        temperature: float | None = 1.0,
        floor: float = 0.01,
        distance: str = "mse",
        adapter: Adapter = "auto",
    ):
        super().__init__(student, teacher, distance, adapter)
        self.temperature = temperature
        if temperature is not None:
            self.temperature = number(temperature, "temperature", self.name, above=0)
        self.floor = number(floor, "floor", self.name, least=0)
        if self.floor > 1:
            raise RecipeError(f"{self.name}: floor must be 0 to 1, got {floor!r}.")
        for whose, layers in zip(("student", "teacher"), self.shape, strict=True):
            self.register_buffer(f"{whose}_weights", torch.full((layers,), 1 / layers))
        self._moved: tuple[Tensor, Tensor] | None = None

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """One adapter a student layer and shape of the teacher's; refuses if there is no solver."""
        solver()
        first: dict[tuple[str, torch.Size], str] = {}
        for ours, theirs in self.pairs:
            # Where nothing is moved an adapter of the pair's own would not learn.
            key = first.setdefault((ours, teacher[theirs].shape[1:]), self._keys[ours, theirs])
            self._keys[ours, theirs] = key
        super().bind(student, teacher)

    def plan(self, distances: Tensor, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The best one for this batch."""
        costs = mean_distances(distances.detach(), batch, self.name)
        plan = transport_plan(costs, self.student_weights, self.teacher_weights)
        if self.training:
            self._moved = (plan, costs)
        return plan.to(distances.dtype)

    def advance(self) -> None:
        """Weigh layers by what they cost in the last batch."""
        if self._moved is None:
            return
        before = (self.student_weights, self.teacher_weights)
        new = moved_weights(*self._moved, before, self.temperature, self.floor)
        for weights, value in zip(before, new, strict=True):
            weights.copy_(value)
        self._moved = None
