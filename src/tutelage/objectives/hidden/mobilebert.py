"""MobileBERT: feature maps and attention of as many layers, of the same width.

Sun, Yu, Song, Liu, Yang, Zhou: MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited
Devices, 2020, arXiv:2004.02984.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import register
from tutelage.objectives.attention.distributions import AttentionDistribution
from tutelage.objectives.attention.heads import Counts
from tutelage.objectives.base import AbstractObjective, AbstractWrapper
from tutelage.objectives.hidden.layers import spread
from tutelage.objectives.hidden.states import AbstractStates, state_error
from tutelage.objectives.hidden.tokens import Units
from tutelage.objectives.paired import Adapter
from tutelage.objectives.pairs import Pairs


class FeatureMaps(AbstractStates):
    """MobileBERT's feature map transfer: the mean squared error of each layer's states."""

    name = "mobilebert_maps"

    def compare(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """The error of one pair."""
        return state_error(student, teacher, self.name)


@register("objective", "mobilebert")
class MobileBERT(AbstractWrapper):
    r"""MobileBERT: each layer's states equal the teacher's, and each head attends as it does.

    .. math:: \sum_\ell \frac{1}{D} \sum_d \big(H^t_{\ell i d} - H^s_{\ell i d}\big)^2
        + \sum_\ell \frac{1}{A} \sum_a KL\big(A^t_{\ell a i} \| A^s_{\ell a i}\big), \quad
        \text{mean over tokens } i

    The first is the term ``mobilebert_maps``, the second ``attention_kl``.

    Neighbours: `TinyBERT` projects states and compares scores before the softmax;
    `AttentionDistribution` is the second term alone.

    Suggested weight: 1 in a stage of its own, before answers are taught (the paper teaches one
    layer after another, those below frozen or at a smaller learning rate).

    Scale: the paper's: means over numbers, heads and tokens, a sum over layers.

    Deviations: the paper's networks are built alike, layer by layer and with bottlenecks, so that
    no projection is needed; others may ask for one (``adapter: linear``) and for an `order`.

    Args:
        states: Student state to teacher state; ``*`` for the number of a layer.
        queries: Student's to teacher's queries: see `AttentionDistribution`. None leaves
            attention out.
        keys: The same of keys.
        heads: Query heads; None where queries are ``(N, heads, T, d)``.
        key_heads: Key heads, where several query heads share one.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there: see `TinyBERTStates`.
        adapter: A projection of states; None compares as they are.
        causal: Whether a token sees only what is before it.
        units: See `TinyBERTStates`.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "states": {"feature": "feature"},
        "queries": {"query": "query"},
        "keys": {"key": "key"},
        "heads": 2,
    }

    def __init__(
        self,
        states: Pairs,
        queries: Pairs | None = None,
        keys: Pairs | None = None,
        *,
        heads: Counts | None = None,
        key_heads: Counts | None = None,
        layers: Sequence[int] | None = None,
        order: str = "skip",
        adapter: Adapter = None,
        causal: bool = False,
        units: Units = "counted",
    ):
        inner: AbstractObjective = FeatureMaps(
            states, layers=layers, order=order, adapter=adapter, units=units
        )
        if queries is not None or keys is not None:
            q, k = (spread(pairs, layers, "mobilebert", order) for pairs in (queries, keys))
            inner += AttentionDistribution(
                heads, q, k, key_heads=key_heads, causal=causal, units=units
            )
        super().__init__(inner)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """Both parts, each under its own name."""
        terms: Terms = self.inner(student, teacher, batch)
        return terms
