"""TinyBERT: embeddings, hidden states, attention and answers, layer by layer.

Jiao, Yin, Shang, Jiang, Chen, Li, Wang, Liu: TinyBERT: Distilling BERT for Natural Language
Understanding, 2019, arXiv:1909.10351.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import register
from tutelage.objectives.attention.heads import Counts
from tutelage.objectives.attention.scores import AttentionScores, ScoreMeeting
from tutelage.objectives.base import AbstractObjective, AbstractWrapper
from tutelage.objectives.hidden.states import AbstractStates, state_error
from tutelage.objectives.hidden.tokens import Units
from tutelage.objectives.paired import Adapter
from tutelage.objectives.pairs import Pairs
from tutelage.objectives.response.soft_target import SoftTarget


@register("objective", "tinybert_states")
class TinyBERTStates(AbstractStates):
    r"""TinyBERT's hidden states: projected, each layer's equal the teacher's of the layer it meets.

    .. math:: \sum_m \lambda_m \mathrm{MSE}\big(H^s_m W, H^t_{g(m)}\big)
        \quad (state\_error), \quad \text{mean over tokens}

    The embedding layer is one more pair, with its own W where its widths are others.

    Neighbours: `TinyBERT` is this with attention and answers; `Match` takes any features, and
    counts padded tokens where no mask of tokens leaves them out; `DistilBERTCosine` compares
    directions alone, `PatientStates` those of one token.

    Suggested weight: 1 (the paper, GLUE: BERT of 12 layers to 4).

    Scale: the paper's: a mean over numbers and tokens, a sum over layers; padded tokens are left
    out, and a token counts for the same in every sequence.

    Deviations: the paper has one W for the layers and another for the embeddings; W has a bias
    here, as in the authors' code (``adapter: {linear: {bias: false}}`` has none).

    Traps: hidden states are not normalised in models that normalise before a layer (Llama, GPT):
    a few large numbers make most of the error there, and `DistilBERTCosine` sees the others.

    Args:
        pairs: Student state to teacher state, ``(N, T, D)`` and ``(N, T, D')``; ``*`` for the
            number of a layer: ``{layers.*: layers.*}``.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there: ``skip`` spreads them evenly (the paper's g), ``last``,
            ``end``.
        adapter: The projection W; see `Match`. None compares as they are.
        shared: Whether pairs of the same widths share one W, as in the authors' code.
        weights: One number at least 0 for each pair, in their order (the paper's lambda); 1 where
            left out.
        units: ``counted`` tokens, as the mask says, or all ``real`` ones (see
            `tutelage.objectives.hidden.tokens`).
    """

    name = "tinybert_states"

    def compare(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """The error of one pair."""
        return state_error(student, teacher, self.name)


@register("objective", "tinybert")
class TinyBERT(AbstractWrapper):
    r"""TinyBERT: each layer does what the teacher's layer does, and the last answers alike.

    .. math:: \sum_m \mathrm{MSE}\big(H^s_m W, H^t_{g(m)}\big)
        + \sum_{m > 0} \lambda_m \frac{1}{H} \sum_h \mathrm{MSE}\big(A^s_{mh}, A^t_{g(m)h}\big)
        + T^2 KL\big(p^T \| q^T\big)

    with H_0 the embeddings. The terms are those of `TinyBERTStates`, `AttentionScores` and
    `SoftTarget`, each under its own name, each weighing 1, as in the paper.

    Neighbours: those three, to weigh one by one; `BertEMD` finds out which layers belong together;
    `MiniLMRelations` asks for the last layer alone.

    Suggested weight: 1 alone (the paper: first with ``prediction: false``, on augmented data, then
    the prediction alone, GLUE).

    Scale: the paper's, with soft cross entropy less the teacher's entropy, which is no matter to
    the gradient, and T squared, which is 1 there.

    Deviations: those of its parts. The paper's lambda weighs all of a layer, and is 1 in all of its
    runs; here it weighs the layer's attention alone: take the three parts to weigh states.

    Traps: those of its parts.

    Args:
        states: Student state to teacher state, layers and embeddings: see `TinyBERTStates`.
        queries: Student's to teacher's queries: see `AttentionScores`. None leaves attention out.
        keys: The same of keys.
        heads: Query heads; None where queries are ``(N, heads, T, d)``.
        key_heads: Key heads, where several query heads share one.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there.
        meet: ``each`` head one of the teacher's, or the ``mean`` of them.
        adapter: The projection of states.
        shared: Whether states of the same widths share one.
        weights: One number at least 0 for each layer whose attention is compared, in their order;
            1 where left out.
        causal: Whether a token sees only what is before it.
        prediction: Whether answers are compared too.
        temperature: T > 0.
        units: See `TinyBERTStates`.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "states": {"feature": "feature"},
        "queries": {"query": "query"},
        "keys": {"key": "key"},
        "heads": 2,
        "weights": [0.05],
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
        meet: ScoreMeeting = "each",
        adapter: Adapter = "linear",
        shared: bool = True,
        weights: Sequence[float] | None = None,
        causal: bool = False,
        prediction: bool = True,
        temperature: float = 1.0,
        units: Units = "counted",
    ):
        spreading: dict[str, Any] = {"layers": layers, "order": order, "units": units}
        inner: AbstractObjective = TinyBERTStates(
            states, adapter=adapter, shared=shared, **spreading
        )
        if queries is not None or keys is not None:
            seen: dict[str, Any] = {"meet": meet, "weights": weights, "causal": causal}
            inner += AttentionScores(heads, queries, keys, None, key_heads, **seen, **spreading)
        if prediction:
            inner += SoftTarget(temperature)
        super().__init__(inner)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """Each part under its own name."""
        terms: Terms = self.inner(student, teacher, batch)
        return terms
