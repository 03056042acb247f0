"""BERT-EMD: hidden states and attention of all layers, each matched by optimal transport.

Li, Liu, Zhao, Xu, Yang, Jin: BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth
Mover's Distance, 2020, arXiv:2010.06133.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import register
from tutelage.objectives.attention.heads import (
    Counts,
    attention_scores,
    head_counts,
    hidden_keys,
    split_heads,
)
from tutelage.objectives.attention.scores import ScoreMeeting, score_error
from tutelage.objectives.contrastive.heads import AbstractTerms
from tutelage.objectives.held import bound, keep_or_adapt, key_of
from tutelage.objectives.hidden.layers import every
from tutelage.objectives.hidden.states import state_error
from tutelage.objectives.hidden.tokens import Units, one_of, token_units, visible_tokens
from tutelage.objectives.matching.transport import moved_weights, solver, transport_plan
from tutelage.objectives.paired import Adapter, maker_of
from tutelage.objectives.pairs import Pairs
from tutelage.objectives.units import average, number

Measure = Callable[[int, int], Tensor]
"""From the numbers of a student layer and a teacher layer to their distance, ``(N, T)``."""


@register("objective", "bert_emd")
class BertEMD(AbstractTerms):
    r"""BERT-EMD: each layer learns from all of the teacher's, as much as is cheap to move.

    .. math:: \sum_{ij} P^H_{ij} \, \mathrm{MSE}\big(H^s_i W, H^t_j\big)
        + \sum_{ij} P^A_{ij} \, \mathrm{MSE}\big(A^s_i, A^t_j\big)

    P is the `transport_plan` between the layers' weights for these costs, made anew for each batch
    and without a gradient, one for hidden states (the term ``bert_emd_states``) and one for
    attention scores (``bert_emd_attention``, over real tokens, see `score_error`). After each
    update `cost_attention` moves the weights towards layers that match cheaply; the two kinds then
    share the mean of both.

    Neighbours: `MatchTransport` is the same of any one kind of feature; `TinyBERT` fixes which
    layers meet, and is what the paper adds for embeddings and answers (`TinyBERTStates` of the
    embeddings, `SoftTarget`).

    Suggested weight: 0.005 for hidden states (the authors take 0.001 to 0.005; GLUE, BERT of 12
    layers to 4 or 6).

    Scale: the paper's: P sums to 1, so the number of layers cancels; means over numbers, heads,
    pairs of tokens and tokens.

    Deviations: layers keep a least weight, as those that reach 0 never come back (``floor: 0`` for
    the paper's). Padded tokens are left out, which the authors' code takes for scores of zero.

    Traps: both networks need as many heads, or ``meet: mean``. Costs and plan are of the batch's
    mean, as published, so it is batchwise. Each step waits for a solver on the CPU.

    Args:
        states: Hidden states of all layers of both networks, by one pair with ``*`` for the
            number: ``{layers.*: layers.*}``. None leaves them out.
        queries: Queries of all layers, likewise, ``(N, T, heads * d)`` or ``(N, heads, T, d)``.
        keys: Keys.
        layers: How many layers student and teacher have.
        heads: Query heads; None where queries are ``(N, heads, T, d)``.
        key_heads: Key heads, where several query heads share one.
        separate: Whether each kind keeps weights of its own.
        temperature: Of the cost attention, greater than 0; None for the plain ratio of the
            authors' later code.
        floor: Least weight of a layer, as a share of an equal one, 0 to 1; 1 keeps all equal.
        adapter: The projection W from the student's width to the teacher's; see `Match`.
        shared: Whether all layers of the student share one W.
        meet: ``each`` head one of the teacher's, or the ``mean`` of them.
        causal: Whether a token sees only what is before it.
        units: See `TinyBERTStates`.
    """

    name = "bert_emd"
    batchwise = True
    needs_features = True
    # Enough layers for batches to differ in their plans.
    example: ClassVar[Mapping[str, Any]] = {"states": {"layer*": "layer*"}, "layers": [4, 6]}

    def __init__(
        self,
        states: Pairs | None = None,
        queries: Pairs | None = None,
        keys: Pairs | None = None,
        *,
        layers: Sequence[int],
        heads: Counts | None = None,
        key_heads: Counts | None = None,
        separate: bool = False,
        temperature: float | None = 1.0,
        floor: float = 0.01,
        adapter: Adapter = "linear",
        shared: bool = True,
        meet: ScoreMeeting = "each",
        causal: bool = False,
        units: Units = "counted",
    ):
        super().__init__()
        if (queries is None) != (keys is None) or (states is None and queries is None):
            raise RecipeError(f"{self.name} needs states, or queries and keys, or all three.")
        given = {"states": states, "queries": queries, "keys": keys}
        self.paths = {
            kind: every(pairs, layers, self.name) for kind, pairs in given.items() if pairs
        }
        self.taps = tuple(  # type: ignore[assignment]
            [path for both in self.paths.values() for path in both[side]] for side in (0, 1)
        )
        self.heads = head_counts(heads, "heads", self.name)
        self.key_heads = self.heads
        if key_heads is not None:
            self.key_heads = head_counts(key_heads, "key_heads", self.name)
        self.kinds = ["states"] * (states is not None) + ["attention"] * (queries is not None)
        for kind in self.kinds:
            for whose, count in zip(("student", "teacher"), layers, strict=True):
                self.register_buffer(f"{kind}_{whose}", torch.full((count,), 1 / count))
        self.separate, self.shared, self.causal = separate, shared, causal
        self.temperature = temperature
        if temperature is not None:
            self.temperature = number(temperature, "temperature", self.name, above=0)
        self.floor = number(floor, "floor", self.name, least=0)
        if self.floor > 1:
            raise RecipeError(f"{self.name}: floor must be 0 to 1, got {floor!r}.")
        self.meet = one_of(meet, "meet", ScoreMeeting, self.name)
        self.units = one_of(units, "units", Units, self.name)
        self.adapters = nn.ModuleDict()
        self._maker = maker_of(adapter, self.name)
        self._last: dict[str, tuple[Tensor, Tensor]] = {}

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make the projections, and refuse what cannot be compared, before learning begins."""
        solver()
        student, teacher = student.float(), teacher.float()
        if "states" in self.kinds:
            ours, theirs = self.paths["states"]
            for path in ours:
                keep_or_adapt(
                    self.adapters, self._key(path), self._maker, student[path], teacher[theirs[0]]
                )
        with torch.no_grad():
            for _, measure in self._measures(student, teacher, None):
                measure(0, 0)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term a kind."""
        return {
            f"{self.name}_{kind}": self._moved(kind, measure, batch)
            for kind, measure in self._measures(student, teacher, batch)
        }

    def _measures(
        self, student: Outputs, teacher: Outputs, batch: Batch | None
    ) -> list[tuple[str, Measure]]:
        found: list[tuple[str, Measure]] = []
        if "states" in self.kinds:
            ours, theirs = self.paths["states"]
            adapted = [bound(self.adapters, self._key(p), self.name)(student[p]) for p in ours]
            found.append(
                ("states", lambda i, j: state_error(adapted[i], teacher[theirs[j]], self.name))
            )
        if "attention" in self.kinds:
            s, t = (self._scores(answer, side) for side, answer in enumerate((student, teacher)))
            seen = None if batch is None else visible_tokens(batch)
            hidden = hidden_keys(s[0], self.causal, seen)
            found.append(("attention", lambda i, j: score_error(s[i], t[j], hidden, self.name)))
        return found

    def _scores(self, answer: Outputs, side: int) -> list[Tensor]:
        """Attention scores of all layers of one network."""
        pairs = zip(self.paths["queries"][side], self.paths["keys"][side], strict=True)
        scores = [
            attention_scores(
                split_heads(answer[query], self.heads[side], self.name),
                split_heads(answer[key], self.key_heads[side], self.name),
            )
            for query, key in pairs
        ]
        return [each.mean(1, keepdim=True) for each in scores] if self.meet == "mean" else scores

    def _moved(self, kind: str, measure: Measure, batch: Batch) -> Tensor:
        """What is moved at the least cost, times how far."""

        def cost(i: int, j: int) -> Tensor:
            return average(
                token_units(measure(i, j), batch, self.name, self.units), batch, self.name
            )

        ours, theirs = self._weights(kind)
        with torch.no_grad():  # all pairs are measured, and only those that meet are kept
            costs = torch.stack(
                [torch.stack([cost(i, j) for j in range(len(theirs))]) for i in range(len(ours))]
            )
        plan = transport_plan(costs, ours, theirs)
        if self.training:
            self._last[kind] = (plan, costs)
        moved = [float(plan[i, j]) * cost(i, j) for i, j in plan.nonzero().tolist()]
        return torch.stack(moved).sum()

    def advance(self) -> None:
        """Weigh layers by what they cost in the last batch."""
        new = {
            kind: moved_weights(*last, self._weights(kind), self.temperature, self.floor)
            for kind, last in self._last.items()
        }
        if not self.separate and new:
            mean = [torch.stack(each).mean(0) for each in zip(*new.values(), strict=True)]
            new = dict.fromkeys(new, mean)
        for kind, values in new.items():
            for weights, value in zip(self._weights(kind), values, strict=True):
                weights.copy_(value)
        self._last = {}

    def _weights(self, kind: str) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"{kind}_student"), self.get_buffer(f"{kind}_teacher")

    def _key(self, path: str) -> str:
        return "all" if self.shared else key_of(path)
