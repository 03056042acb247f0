"""Matryoshka: an objective asked of the first numbers of an embedding, several times.

Kusupati, Bhatt, Rege, Wallingford, Sinha, Ramanujan, Howard-Snyder, Chen, Kakade, Jain, Farhadi:
Matryoshka Representation Learning, 2022, arXiv:2205.13147.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, SparseOutputs, Terms
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractObjective
from tutelage.objectives.hidden.layers import layer_weights
from tutelage.objectives.hidden.tokens import one_of
from tutelage.objectives.inner import Inner, inner_of
from tutelage.objectives.lent import Lent
from tutelage.objectives.units import whole

Teacher = Literal["whole", "cut"]
"""What of the teacher's embedding a cut one of the student is compared with."""

_DECLARED = (
    "taps",
    "borrows",
    "batchwise",
    "needs_targets",
    "needs_teacher",
    "needs_features",
    "needs_ids",
    "needs_variants",
)


def first_numbers(answer: Outputs, paths: Sequence[str], size: int) -> Outputs:
    """An answer with its features at ``paths`` cut to their first numbers; without any, its logits.

    Args:
        answer: Features ``(N, ..., D)``.
        paths: Which of them are cut.
        size: How many numbers are kept, at most D.

    Raises:
        ShapeMismatch: There are not as many.

    Example:
        >>> import torch
        >>> first_numbers(Outputs(torch.tensor([[1.0, 2.0, 3.0]])), [], 2).logits
        tensor([[1., 2.]])
    """

    def cut(t: Tensor) -> Tensor:
        if t.shape[-1] < size:
            raise ShapeMismatch(
                f"matryoshka was asked for the first {size} numbers of {tuple(t.shape)}: sizes "
                "must be at most the embedding's width."
            )
        return t[..., :size]

    if not paths:
        if isinstance(answer, SparseOutputs):
            return answer
        return Outputs(cut(answer.logits), answer.features)
    features = {
        path: cut(answer[path]) if path in paths else each for path, each in answer.features.items()
    } | {path: cut(answer[path]) for path in paths}
    return replace(answer, features=features)


@register("objective", "matryoshka")
class Matryoshka(AbstractObjective):
    r"""Matryoshka: the first m numbers of the embedding do what the whole does, for several m.

    .. math:: \sum_{m} c_m \, L\big(s_{1:m}, \, t\big)

    One inner objective for each size, with adapters of its own; its terms are logged under its
    name and the size, such as ``pairwise_cosines_64``. What is cut are the student's features that
    the inner objective taps, or the student's answer where it taps none.

    Neighbours: `PairwiseCosines`, `RankedSimilarities` and `EmbedDistill` are what to put inside;
    `EmbedDistill` then needs an adapter, or a teacher that is cut too.

    Suggested weight: 1, that is the inner objective's own, for each size (the paper weighs sizes
    alike).

    Scale: the paper's: a sum over sizes.

    Traps: name the whole width among the sizes, or nothing is asked of the rest. A teacher that
    was not trained so has no order among its numbers: leave it whole.

    Args:
        inner: An objective of embeddings: its name, or ``{name: options}``.
        sizes: How many of the first numbers are kept, each at most the width.
        weights: c, one number at least 0 for each size; 1 where left out.
        teacher: Whether the teacher's embedding stays ``whole`` or is ``cut`` alike.
    """

    example: ClassVar[Mapping[str, Any]] = {"inner": "pairwise_cosines", "sizes": [2, 4]}

    def __init__(
        self,
        inner: Inner,
        sizes: Sequence[int],
        weights: Sequence[float] | None = None,
        teacher: Teacher = "whole",
    ):
        super().__init__()
        if not isinstance(sizes, (list, tuple)) or not sizes or len(set(sizes)) < len(sizes):
            raise RecipeError(
                f"matryoshka: sizes must be a list of different numbers, such as [64, 128, 256], "
                f"got {sizes!r}."
            )
        self.sizes = [whole(each, "sizes", "matryoshka") for each in sizes]
        self.weights = layer_weights(weights, len(self.sizes), "matryoshka")
        self.cutting = one_of(teacher, "teacher", Teacher, "matryoshka") == "cut"
        first = inner_of(inner, "matryoshka")
        self.parts = nn.ModuleList([first, *(deepcopy(first) for _ in self.sizes[1:])])
        for declared in _DECLARED:
            setattr(self, declared, getattr(first, declared))
        # The first numbers of an embedding do not agree with the whole of the same.
        self.divergence = first.divergence and self.cutting

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Bind each inner objective to its size."""
        for part, ours, theirs in self._cut(student, teacher):
            part.bind(ours, theirs)

    def borrow(self, student: Mapping[str, nn.Module], teacher: Mapping[str, nn.Module]) -> None:
        """Lend to each inner objective."""
        self.lent = Lent(student, teacher)
        for part in self._inner():
            part.borrow(student, teacher)

    def advance(self) -> None:
        """Move each inner objective on."""
        for part in self._inner():
            part.advance()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The inner terms of each size, under their names and the size."""
        found: dict[str, Tensor] = {}
        cut = zip(self._cut(student, teacher), self.sizes, self.weights, strict=True)
        for (part, ours, theirs), size, weight in cut:
            terms: Terms = part(ours, theirs, batch)
            found |= {f"{name}_{size}": weight * term for name, term in terms.items()}
        return found

    def _inner(self) -> list[AbstractObjective]:
        return list(self.parts)  # type: ignore[arg-type]  # a ModuleList forgets its type

    def _cut(
        self, student: Outputs, teacher: Outputs
    ) -> list[tuple[AbstractObjective, Outputs, Outputs]]:
        """Each inner objective with both answers as it is to see them."""
        return [
            (
                part,
                first_numbers(student, self.taps[0], size),
                first_numbers(teacher, self.taps[1], size) if self.cutting else teacher,
            )
            for part, size in zip(self._inner(), self.sizes, strict=True)
        ]
