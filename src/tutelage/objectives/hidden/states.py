"""What objectives share that compare hidden states token by token."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.objectives.hidden.layers import layer_weights, spread, weighted_sum
from tutelage.objectives.hidden.tokens import Units, one_of, token_units
from tutelage.objectives.paired import AbstractAdapted, Adapter
from tutelage.objectives.pairs import Pairs
from tutelage.objectives.units import paired


def state_error(student: Tensor, teacher: Tensor, asker: str = "tinybert") -> Tensor:
    r"""Mean squared difference of each token's state.

    .. math:: \frac{1}{D} \sum_d (s_{id} - t_{id})^2

    Args:
        student: ``(N, T, D)`` or ``(N, D)``.
        teacher: The same shape.
        asker: In whose name other shapes are refused.

    Returns:
        ``(N, T)`` or ``(N,)``, in squared units of the states.

    Raises:
        ShapeMismatch: The shapes differ, or are no states.

    Example:
        >>> state_error(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]]))
        tensor([[2.]])
    """
    student, teacher = paired_states(student, teacher, asker)
    apart = student - teacher
    # The squares of all numbers are never held.
    squares: Tensor = torch.linalg.vecdot(apart, apart)
    return squares / apart.shape[-1]


def paired_states(student: Tensor, teacher: Tensor, asker: str) -> tuple[Tensor, Tensor]:
    """Both in fp32 at least, after a check that they are states of the same tokens."""
    if student.ndim not in (2, 3):
        raise ShapeMismatch(
            f"{asker} compares states (N, T, D) or vectors (N, D), and got {tuple(student.shape)}: "
            "tap layers of a transformer, or use 'match'."
        )
    return paired(student, teacher, asker)


class AbstractStates(AbstractAdapted):
    """A loss of pairs of hidden states, summed over pairs: `name` and `compare`.

    The projections work on the last dimension, so batches may be of any length.

    Args:
        pairs: Student state to teacher state, ``(N, T, D)`` and ``(N, T, D')``; ``*`` for the
            number of a layer, see `spread`.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there: ``skip`` spreads them evenly, ``last``, ``end``.
        adapter: The projection from the student's width to the teacher's, as of `Match`.
        shared: Whether pairs of the same widths share one projection.
        weights: One number at least 0 for each pair, in their order; 1 where left out.
        units: See `tutelage.objectives.hidden.tokens`.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        layers: Sequence[int] | None = None,
        order: str = "skip",
        adapter: Adapter = "linear",
        shared: bool = True,
        weights: Sequence[float] | None = None,
        units: Units = "counted",
    ):
        super().__init__(spread(pairs, layers, self.name, order) or {}, adapter)
        if not isinstance(shared, bool):
            raise RecipeError(f"{self.name}: shared must be true or false, got {shared!r}.")
        self.shared = shared
        self.weights = layer_weights(weights, len(self.pairs), self.name)
        self.units = one_of(units, "units", Units, self.name)
        self.divergence = adapter is None

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """The distance of one pair of states of one shape, ``(N, T)`` or ``(N,)``."""

    @final
    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make the projections: one for all pairs of the same widths, or one a pair."""
        if self.shared:
            first: dict[tuple[int, int], str] = {}
            for ours, theirs in self.pairs:
                widths = (student[ours].shape[-1], teacher[theirs].shape[-1])
                self._keys[ours, theirs] = first.setdefault(widths, self._keys[ours, theirs])
        super().bind(student, teacher)

    @final
    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The weighted sum over pairs, one value a unit."""
        pairs = self.adapted(student, teacher)
        found = weighted_sum([self.compare(s, t, batch) for s, t in pairs], self.weights)
        return token_units(found, batch, self.name, self.units)
