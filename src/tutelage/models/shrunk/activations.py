"""How much heads, inner units and hidden channels matter, by what they do on a few batches.

Muralidharan, Turuvekere Sreenivas, Joshi, Chochowski, Patwary, Shoeybi, Catanzaro, Kautz,
Molchanov: Compact Language Models via Pruning and Knowledge Distillation, 2024, arXiv:2407.14679.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, suggest
from tutelage.models.shrunk.calibration import (
    Look,
    asking,
    calibration,
    hidden_in,
    hidden_out,
    real_tokens,
)
from tutelage.models.shrunk.families import family_of, readers_of
from tutelage.models.shrunk.family import Family
from tutelage.models.shrunk.pretrained import described_in
from tutelage.models.shrunk.stacks import is_decoder
from tutelage.models.zoo.gpt import GPT

MEANS = ("l2", "mean")
"""Ways to make one number of several."""


@dataclass(frozen=True)
class WidthScores:
    """How much each part of a model's width matters, and how strong its hidden channels are.

    Attributes:
        heads: ``(L, A)``, for each attention its heads of queries, in the order of the model.
        neurons: ``(L, F)``, for each block its inner units, likewise.
        channels: ``(H,)``, summed over all normalisations.
        energy: By path of a normalisation, the mean square of each channel it is given, ``(H,)``.
    """

    heads: Tensor
    neurons: Tensor
    channels: Tensor
    energy: Mapping[str, Tensor]


def width_scores(
    model: nn.Module,
    batches: Iterable[Batch] | None,
    *,
    over_tokens: str = "mean",
    over_batch: str = "l2",
) -> WidthScores:
    r"""Importance of heads, inner units and hidden channels by their activations.

    .. math:: F_{head}^{(i)} = \sum_{B,S} \big\| \mathrm{Attn}(X W^{Q,i}, X W^{K,i}, X W^{V,i})
        \big\|_2, \quad F_{neuron}^{(i)} = \sum_{B,S} a_i, \quad
        F_{emb}^{(i)} = \sum_{B,S} LN(X)_i

    where the two sums stand for a mean of absolute values over the tokens of an example and the
    L2 norm over examples (the paper's choice), and :math:`a` is what the layer after the inner
    units is given, after activation and gate. Channels are summed over all normalisations.
    Padding does not count, and it is of no matter how examples are cut into batches.

    Args:
        model: A model of a known family, or a module with one inside; it stays.
        batches: What it is asked, ``input_ids`` ``(N, T)``.
        over_tokens: ``mean`` or ``l2``.
        over_batch: ``l2`` or ``mean``.

    Returns:
        Scores in float64.

    Raises:
        ModelError: The family is not known, or an option.
        DataError: There are no batches.
    """
    for name, value in (("over_tokens", over_tokens), ("over_batch", over_batch)):
        if value not in MEANS:
            raise ModelError(f"{name}: got {value!r}. {suggest(str(value), MEANS)}")
    found = calibration(batches, "pruning by activations")
    inner: Any = described_in(model)
    family = family_of(model if inner is None else inner)
    parts = _Parts(inner, family, over_tokens, over_batch)
    with asking(model, parts.looks) as ask:
        for batch in found:
            parts.batch = batch
            ask(batch)
    return WidthScores(
        heads=parts.stacked("heads"),
        neurons=parts.stacked("neurons"),
        channels=parts.stacked("channels").sum(0),
        energy={path: each.squares() for path, each in parts.energy.items()},
    )


class _Total:
    """Activations ``(N, T, C)`` of all batches as one number for each of C."""

    def __init__(self, over_tokens: str, over_batch: str):
        self.inside, self.across = over_tokens, over_batch
        self.sum: Tensor | float = 0.0
        self.count = 0

    def add(self, activations: Tensor, tokens: Tensor) -> None:
        rows, real = activations.double().cpu(), tokens.double().cpu()[..., None]
        if self.inside == "mean":
            each = (rows.abs() * real).sum(1) / real.sum(1).clamp(min=1)
        else:
            each = (rows.square() * real).sum(1).sqrt()
        self.sum = self.sum + (each if self.across == "mean" else each.square()).sum(0)
        self.count += len(each)

    def value(self) -> Tensor:
        assert isinstance(self.sum, Tensor)
        return self.sum / self.count if self.across == "mean" else self.sum.sqrt()


class _Energy:
    """Mean square of each channel over real tokens."""

    def __init__(self) -> None:
        self.sum: Tensor | float = 0.0
        self.count = 0

    def add(self, given: Tensor, tokens: Tensor) -> None:
        self.sum = self.sum + given[tokens].double().square().sum(0).cpu()
        self.count += int(tokens.sum())

    def squares(self) -> Tensor:
        assert isinstance(self.sum, Tensor)
        return self.sum / max(self.count, 1)


class _Parts:
    """The modules that are looked at, and what was seen."""

    def __init__(self, inner: Any, family: Family, over_tokens: str, over_batch: str):
        self.batch: Batch | None = None
        self.seen: dict[str, list[_Total]] = {"heads": [], "neurons": [], "channels": []}
        self.energy: dict[str, _Energy] = {}
        self.looks: dict[nn.Module, Look] = {}
        self.size = head_size(inner)
        kinds = dict.fromkeys(_norms(family, inner), "channels")
        for kind, layers in zip(("heads", "neurons"), readers_of(family, inner), strict=True):
            kinds |= dict.fromkeys(layers.values(), kind)
        for path, kind in kinds.items():
            look = self._look(kind, path, _Total(over_tokens, over_batch))
            self.looks[inner.get_submodule(path)] = look

    def stacked(self, kind: str) -> Tensor:
        return torch.stack([total.value() for total in self.seen[kind]])

    def _look(self, kind: str, path: str, total: _Total) -> Look:
        self.seen[kind].append(total)

        def look(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            assert self.batch is not None
            given = hidden_in(args, kwargs)
            tokens = real_tokens(self.batch, given, decoder=is_decoder(path))
            if kind == "channels":
                self.energy.setdefault(path, _Energy()).add(given, tokens)
                total.add(hidden_out(output), tokens)
            elif kind == "neurons":
                total.add(given, tokens)
            else:
                heads = given.reshape(*given.shape[:-1], -1, self.size)
                total.add(heads.double().norm(dim=-1), tokens)

        return look


def _norms(family: Family, model: nn.Module) -> list[str]:
    paths = [path for path, _ in model.named_modules()]
    return [p for p in paths if any(p == end or p.endswith(f".{end}") for end in family.norms)]


def head_size(model: Any) -> int:
    """The size of one head of attention."""
    if isinstance(model, GPT):
        return model.sizes.head_size
    for module in model.modules():
        for name in ("head_dim", "attention_head_size", "key_value_proj_dim"):
            if isinstance(getattr(module, name, None), int):
                return int(getattr(module, name))
    raise ModelError(f"{type(model).__name__} does not say how large a head of attention is.")
