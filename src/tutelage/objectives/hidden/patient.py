"""Patient knowledge distillation: the class token's state points where the teacher's does.

Sun, Cheng, Gan, Liu: Patient Knowledge Distillation for BERT Model Compression, 2019,
arXiv:1908.09355.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.registry import register
from tutelage.objectives.hidden.states import AbstractStates, paired_states
from tutelage.objectives.hidden.tokens import Pooling, one_of, pooled_tokens
from tutelage.objectives.paired import Adapter
from tutelage.objectives.pairs import Pairs
from tutelage.objectives.relation.maps import unit_length


def patient_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared distance of two vectors at unit length.

    .. math:: \Big\| \frac{s}{\|s\|_2} - \frac{t}{\|t\|_2} \Big\|_2^2

    Args:
        student: ``(N, D)``.
        teacher: The same shape.

    Returns:
        ``(N,)``, without unit, 0 to 4; a vector of zeros stays one.

    Raises:
        ShapeMismatch: The shapes differ.

    Example:
        >>> import torch
        >>> patient_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([2.])
    """
    student, teacher = paired_states(student, teacher, "patient_kd")
    return (unit_length(student) - unit_length(teacher)).square().sum(-1)


@register("objective", "patient_kd")
class PatientStates(AbstractStates):
    r"""Patient KD: in chosen layers, the class token's state points where the teacher's does.

    .. math:: \sum_i \Big\| \frac{h^s_i}{\|h^s_i\|} - \frac{h^t_{g(i)}}{\|h^t_{g(i)}\|} \Big\|^2
        \quad (patient\_distance)

    Neighbours: `MatchLayers` takes the angle at every position; `DistilBERTCosine` that of every
    real token, on the last layer; `TinyBERTStates` the states themselves.

    Suggested weight: 100 beside soft targets and labels (the paper searches 10, 100, 500 and 1000
    on GLUE, BERT of 12 layers to 3 or 6).

    Scale: the paper's: a sum over layers, a mean over texts.

    Traps: the paper leaves the last layer out, whose state the labels teach already: name the
    others, {layers.0: layers.1, ...}. A text counts as a whole, whatever tokens its mask counts.

    Args:
        pairs: Student state to teacher state, ``(N, T, D)`` or ``(N, D)``; ``*`` for the number of
            a layer.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there: ``skip`` spreads them evenly (PKD-Skip), ``last`` takes the
            teacher's last ones (PKD-Last), ``end`` the last alone.
        token: Which of the real tokens stands for the text: the ``first``, the ``last`` (of causal
            models) or the ``mean``.
        adapter: A projection, where the student is not as wide as its teacher: ``linear``.
        shared: Whether pairs of the same widths share one projection.
        weights: One number at least 0 for each pair, in their order; 1 where left out.
    """

    name = "patient_kd"

    def __init__(
        self,
        pairs: Pairs,
        *,
        layers: Sequence[int] | None = None,
        order: str = "skip",
        token: Pooling = "first",
        adapter: Adapter = None,
        shared: bool = True,
        weights: Sequence[float] | None = None,
    ):
        made: dict[str, Any] = {"adapter": adapter, "shared": shared, "weights": weights}
        super().__init__(pairs, layers=layers, order=order, **made)
        self.token = one_of(token, "token", Pooling, self.name)

    def compare(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """The distance of each text, ``(N,)``, given to each of its tokens, ``(N, T)``."""
        student, teacher = paired_states(student, teacher, self.name)
        ours, theirs = (
            pooled_tokens(states, batch, self.token, self.name) for states in (student, teacher)
        )
        found = patient_distance(ours, theirs)
        return found if student.ndim == 2 else found[:, None].expand(student.shape[:2])
