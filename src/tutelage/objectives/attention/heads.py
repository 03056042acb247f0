"""What objectives share that compute attention from queries and keys.

The matrices are computed here, so the models may use fused attention, which keeps none.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.reduce import full_precision
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.hidden.layers import layer_weights, weighted_sum
from tutelage.objectives.hidden.tokens import Units, one_of, token_units, visible_tokens
from tutelage.objectives.pairs import Pairs, pairs_of, paths_of
from tutelage.objectives.units import raised

Counts = int | Sequence[int]
"""A number for both networks, or the student's and the teacher's."""


def split_heads(states: Tensor, heads: int | None, asker: str) -> Tensor:
    """States by head: ``(N, T, heads * d)`` -> ``(N, heads, T, d)``, which may come as it is.

    Without a number of heads it must.

    >>> split_heads(torch.rand(2, 5, 12), 3, "minilm").shape
    torch.Size([2, 3, 5, 4])
    """
    if states.ndim == 4 and heads in (None, states.shape[1]):
        return states
    if heads is None:
        raise ShapeMismatch(
            f"{asker} needs the number of heads to cut states {tuple(states.shape)}, which are "
            "not (N, heads, T, d): set heads to that of the model."
        )
    if states.ndim != 3 or states.shape[-1] % heads:
        raise ShapeMismatch(
            f"{asker} needs states (N, T, {heads} * d) or (N, {heads}, T, d), and got "
            f"{tuple(states.shape)}: set the number of heads to that of the model, and tap its "
            "projections."
        )
    return states.reshape(*states.shape[:2], heads, states.shape[-1] // heads).transpose(1, 2)


def unpack(packed: Tensor, heads: int, key_heads: int, asker: str) -> list[Tensor]:
    """Queries, keys and values from one projection ``(N, T, (heads + 2 key_heads) * d)``."""
    parts = heads + 2 * key_heads
    if packed.ndim != 3 or packed.shape[-1] % parts:
        raise ShapeMismatch(
            f"{asker} needs packed states (N, T, {parts} * d) for {heads} heads with {key_heads} "
            f"key heads, and got {tuple(packed.shape)}: set heads and key_heads to the model's."
        )
    size = packed.shape[-1] // parts
    keys, values = heads * size, (heads + key_heads) * size
    return [packed[..., :keys], packed[..., keys:values], packed[..., values:]]


def attention_scores(queries: Tensor, keys: Tensor) -> Tensor:
    r"""Attention before the softmax; keys of fewer heads are shared by groups of query heads.

    .. math:: \langle q_i, k_j \rangle / \sqrt d

    Args:
        queries: ``(N, H, T, d)``.
        keys: ``(N, H / g, S, d)``.

    Returns:
        ``(N, H, T, S)``, without unit.

    Raises:
        ShapeMismatch: Heads or sizes do not fit.

    Example:
        >>> attention_scores(torch.ones(1, 4, 3, 4), torch.ones(1, 2, 3, 4)).unique()
        tensor([2.])
    """
    queries, keys = raised(queries), raised(keys)
    heads, groups = queries.shape[1], keys.shape[1]
    if heads % groups or queries.shape[-1] != keys.shape[-1]:
        raise ShapeMismatch(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} do not fit: the number "
            "of key heads must divide that of query heads, and heads must be of one size."
        )
    grouped = queries.reshape(len(queries), groups, heads // groups, *queries.shape[2:])
    grouped = grouped / math.sqrt(queries.shape[-1])
    with full_precision(queries):
        return (grouped @ keys.unsqueeze(2).transpose(-1, -2)).flatten(1, 2)


def log_attention(
    queries: Tensor, keys: Tensor, *, causal: bool = False, padding: Tensor | None = None
) -> Tensor:
    r"""Log of attention matrices; keys of fewer heads are shared by groups of query heads.

    .. math:: \log \sigma_j\big(\langle q_i, k_j \rangle / \sqrt d\big)

    Args:
        queries: ``(N, H, T, d)``.
        keys: ``(N, H / g, S, d)``.
        causal: Whether a query sees only keys up to its own place (the last query sees all).
        padding: ``(N, S)`` of bool, False for keys that nobody sees; or ``(N, T, S)``, False for
            those that a query does not see.

    Returns:
        ``(N, H, T, S)``; the lowest number there is for what is not seen, which for a query that
        sees nothing are all keys.

    Raises:
        ShapeMismatch: Heads or sizes do not fit.

    Example:
        >>> q, k = torch.rand(1, 4, 3, 2), torch.rand(1, 2, 3, 2)
        >>> log_attention(q, k, causal=True).exp()[0, 0, 0].tolist()
        [1.0, 0.0, 0.0]
    """
    scores = attention_scores(queries, keys)
    hidden = hidden_keys(scores, causal, padding)
    if hidden is None:
        return F.log_softmax(scores, dim=-1)
    # Not -inf: a softmax over nothing, and the difference of two, would be NaN.
    lowest = torch.finfo(scores.dtype).min
    return F.log_softmax(scores.masked_fill(hidden, lowest), dim=-1).masked_fill(hidden, lowest)


def hidden_keys(scores: Tensor, causal: bool, padding: Tensor | None) -> Tensor | None:
    """Which keys each query does not see, of a shape that fits ``(N, H, T, S)``; None for none."""
    hidden = None
    if causal:
        queries, keys = scores.shape[-2:]
        hidden = ~torch.ones_like(scores[0, 0], dtype=torch.bool).tril(keys - queries)
    if padding is not None:
        if padding.shape not in ((len(scores), scores.shape[-1]), (len(scores), *scores.shape[2:])):
            raise ShapeMismatch(
                f"a mask of keys must be {(len(scores), scores.shape[-1])}, one entry a token, and "
                f"is {tuple(padding.shape)}."
            )
        padded = ~(padding[:, None, None] if padding.ndim == 2 else padding[:, None])
        hidden = padded if hidden is None else hidden | padded
    return hidden


def rows_apart(student: Tensor, teacher: Tensor, asker: str) -> Tensor:
    r"""KL divergence of each query's attention, mean over heads.

    .. math:: \frac{1}{H} \sum_h \sum_j p_{hij} \log \frac{p_{hij}}{q_{hij}}

    Args:
        student: Log-probabilities ``(N, H, T, S)`` of `log_attention`.
        teacher: The same shape, with the same keys hidden.
        asker: In whose name other shapes are refused.

    Returns:
        ``(N, T)``, in nats; 0 where a query sees nothing.
    """
    if student.shape != teacher.shape:
        raise ShapeMismatch(
            f"{asker} compares attention of one shape (N, heads, T, S), and got "
            f"{tuple(student.shape)} from the student and {tuple(teacher.shape)} from the teacher: "
            "heads and tokens must be as many, or the heads brought together by an option."
        )
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1).mean(1)


class AbstractHeads(AbstractUnitLoss):
    """A loss of queries, keys and values of paired layers: `name` and `compare`.

    Args:
        given: By option, the pairs of one kind of states, or None; all of them, or none.
        qkv: In their place, pairs of packed states, in the order queries, keys, values.
        heads: Query heads; None where states are ``(N, heads, T, d)``.
        key_heads: Key and value heads, where they are fewer; None for as many.
        causal: Whether a token sees only what is before it.
        padding: Whether padded tokens are hidden as keys: those that ``attention_mask`` leaves
            out or, where inputs have no names, the mask ``(N, T)``. Of packed rows, tokens of
            other documents always are.
        weights: One number at least 0 for each layer, in their order; 1 where left out.
        units: Which tokens count as queries: see `tutelage.objectives.hidden.tokens`.
    """

    needs_features = True
    divergence = True

    def __init__(
        self,
        given: Mapping[str, Pairs | None],
        qkv: Pairs | None,
        heads: Counts | None,
        key_heads: Counts | None,
        *,
        causal: bool,
        padding: bool,
        weights: Sequence[float] | None = None,
        units: Units = "counted",
    ):
        super().__init__()
        asked = {option: pairs for option, pairs in given.items() if pairs is not None}
        if len(asked) != (len(given) if qkv is None else 0):
            raise RecipeError(
                f"{self.name} needs {' and '.join(given)}, or qkv in their place, and got "
                f"{', '.join([*asked, *(['qkv'] if qkv else [])]) or 'none'}."
            )
        taken = asked if qkv is None else {"qkv": qkv}
        self.states = [pairs_of(pairs, f"{self.name}, {name}") for name, pairs in taken.items()]
        if len({len(pairs) for pairs in self.states}) > 1:
            raise RecipeError(
                f"{self.name}: {' and '.join(taken)} must name as many layers, in one order, got "
                f"{' and '.join(str(len(pairs)) for pairs in self.states)}."
            )
        self.packed = qkv is not None
        self.taps = paths_of([pair for pairs in self.states for pair in pairs])
        self.heads = head_counts(heads, "heads", self.name)
        self.key_heads = self.heads
        if key_heads is not None:
            self.key_heads = head_counts(key_heads, "key_heads", self.name)
        self.layer_weights = layer_weights(weights, len(self.states[0]), self.name)
        self.causal, self.padding = causal, padding
        self.units = one_of(units, "units", Units, self.name)

    @abstractmethod
    def compare(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Tensor | None
    ) -> Tensor:
        """The value ``(N, T)`` of one layer's states, in the order of the options.

        States are as tapped, ``(N, T, D)`` or ``(N, heads, T, d)``, or unpacked.
        """

    @final
    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Refuse states that cannot be compared before learning begins."""
        with torch.no_grad():
            for ours, theirs in zip(
                self._layers(student, 0), self._layers(teacher, 1), strict=True
            ):
                self.compare(ours, theirs, None)

    @final
    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The weighted sum over layers, one value a unit."""
        seen = visible_tokens(batch, padding=self.padding)
        layers = zip(self._layers(student, 0), self._layers(teacher, 1), strict=True)
        found = weighted_sum([self.compare(s, t, seen) for s, t in layers], self.layer_weights)
        return token_units(found, batch, self.name, self.units)

    @final
    def queries_and_keys(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The first two states of a layer by head, ``(N, heads, T, d)``: student's, teacher's."""
        return [
            (split_heads(states[0], heads, self.name), split_heads(states[1], groups, self.name))
            for states, heads, groups in zip(
                (student, teacher), self.heads, self.key_heads, strict=True
            )
        ]

    def _layers(self, outputs: Outputs, side: int) -> list[list[Tensor]]:
        """The states of each layer: side 0 is the student's, 1 the teacher's."""
        if self.packed:
            heads, key_heads = self.heads[side] or 1, self.key_heads[side] or 1
            return [
                unpack(outputs[pair[side]], heads, key_heads, self.name) for pair in self.states[0]
            ]
        return [[outputs[pair[side]] for pair in layer] for layer in zip(*self.states, strict=True)]


def head_counts(counts: Counts | None, option: str, asker: str) -> tuple[int | None, int | None]:
    """The student's and the teacher's number."""
    if counts is None:
        return None, None
    both = list(counts) if isinstance(counts, Sequence) else [counts, counts]
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in both)
    if len(both) != 2 or not whole or min(both) < 1:
        raise RecipeError(
            f"{asker}: {option} must be a whole number, or two (student's, teacher's), got "
            f"{counts!r}."
        )
    return both[0], both[1]
