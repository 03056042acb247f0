"""Layers matched by their order: evenly spread, or the last ones.

Sun, Cheng, Gan, Liu: Patient Knowledge Distillation for BERT Model Compression, 2019,
arXiv:1908.09355.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.objectives.matching.abstract import layers_of
from tutelage.objectives.matching.distances import distance_of
from tutelage.objectives.paired import AbstractPaired, Adapter


def layer_pairs(
    student: int, teacher: int, order: str = "skip", asker: str = "match_layers"
) -> list[tuple[int, int]]:
    r"""Which of the teacher's layers each of the student's meets, by numbers from 0.

    .. math:: g(i) = \lceil i \, T / S \rceil \text{ (skip)}, \quad g(i) = T - S + i
        \text{ (last)}, \quad i = 1 \dots S

    Args:
        student: S, how many layers the student has.
        teacher: T, how many the teacher has.
        order: ``skip`` spreads them evenly, ending with the last; ``last`` takes the last S of
            the teacher; ``end`` matches the last layer alone.
        asker: In whose name others are refused.

    Returns:
        Pairs of numbers.

    Raises:
        RecipeError: There is no such order, or the teacher has too few layers for it.

    Example:
        >>> layer_pairs(3, 6), layer_pairs(3, 6, "last"), layer_pairs(3, 6, "end")
        ([(0, 1), (1, 3), (2, 5)], [(0, 3), (1, 4), (2, 5)], [(2, 5)])
    """
    if order == "skip":
        return [(i, -(-(i + 1) * teacher // student) - 1) for i in range(student)]
    if order == "end":
        return [(student - 1, teacher - 1)]
    if order != "last":
        raise RecipeError(f"{asker}: order must be skip, last or end, got {order!r}.")
    if student > teacher:
        raise RecipeError(
            f"{asker}: {student} layers of the student cannot meet the last {student} of a "
            f"teacher that has {teacher}: name fewer, or use order: skip."
        )
    return [(i, teacher - student + i) for i in range(student)]


@register("objective", "match_layers")
class MatchLayers(AbstractPaired):
    r"""PKD-Skip and PKD-Last: layers meet by their order, and point the same way.

    .. math:: \sum_i \mathrm{mean} \, \Big(1 - \cos \angle \big(a_i(s_i), t_{g(i)}\big)\Big)

    with g as in `layer_pairs`.

    Neighbours: `Match` is told each pair; `MatchTransport` and `SemanticMatch` find out which
    layers belong together; with few labels the fixed order does as well.

    Suggested weight: 200 (100 at the paper's scale, which searches 10, 100, 500 and 1000 on GLUE,
    BERT of 12 layers to 3 or 6).

    Scale: the paper's squared distance of unit vectors is 2 (1 - cosine).

    Deviations: all positions that are in the features are compared, where the paper takes the
    class token alone (tap that where it is meant); an adapter, where the paper's student is as
    wide as its teacher.

    Args:
        student: Features of the student, first layers first.
        teacher: Features of the teacher, first layers first.
        order: ``skip`` spreads the pairs evenly, ``last`` takes the teacher's last ones, ``end``
            is the last layer alone.
        distance: ``cosine``, ``mse``, ``smooth_l1``, or ``attention`` (maps without channels).
        adapter: As of `Match`.
    """

    name = "match_layers"
    example: ClassVar[Mapping[str, Any]] = {
        "student": ["first", "second"],
        "teacher": ["first", "second", "third"],
    }

    def __init__(
        self,
        student: Sequence[str],
        teacher: Sequence[str],
        *,
        order: str = "skip",
        distance: str = "cosine",
        adapter: Adapter = "auto",
    ):
        ours = layers_of(student, "student", self.name)
        theirs = layers_of(teacher, "teacher", self.name)
        several: dict[str, list[str]] = {}
        for i, j in layer_pairs(len(ours), len(theirs), order):
            several.setdefault(ours[i], []).append(theirs[j])
        super().__init__(several, adapter)
        self.distance = distance_of(distance, self.name)
        self.aligned = self.distance.aligned
        self.divergence = adapter is None or not self.aligned

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The distance of one pair."""
        return self.distance.measure(student, teacher)
