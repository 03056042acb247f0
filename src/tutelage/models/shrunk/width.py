"""Students that begin as their teacher with fewer heads, inner units and hidden channels."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.shrunk.activations import WidthScores, head_size, width_scores
from tutelage.models.shrunk.families import alike, family_of, kind_of, readers_of
from tutelage.models.shrunk.family import Family
from tutelage.models.shrunk.kept import Kept, Units, Wish, cut_state, rows_of_heads, units
from tutelage.models.shrunk.odd_heads import say_head_size
from tutelage.models.shrunk.pretrained import described_in, description_of, instead, rebuilt


def narrower(
    model: nn.Module,
    *,
    heads: Wish = None,
    mlp: Wish = None,
    width: int | Sequence[int] | None = None,
    batches: Iterable[Batch] | None = None,
    rescale: bool = True,
) -> nn.Module:
    r"""A copy of a model of a known family with smaller tensors.

    Parts that matter least by `width_scores` are left out: heads and inner units by block, hidden
    channels everywhere. Where keys and values have fewer heads than queries, whole groups go, and
    a group matters as much as its heads of queries in sum. T5 learns a bias of positions for each
    head in the first block of a stack, and all blocks of it add this: so its self-attentions keep
    the same heads, which matter as much as in all of them in sum; attention across is free.

    With fewer channels, normalisation by the root of the mean square sees another mean. So its
    weights are multiplied by the root of the ratio of the mean squares before and after, measured
    on the batches, and its epsilon by H / H'; with this, leaving out channels that are zero changes
    nothing. A T5 whose head is its embedding divides what this reads by the root of H; the last
    normalisation makes up for that, too. Minitron leaves them as they are (``rescale=False``).
    Layer normalisation also subtracts a mean, which no weight can make up for: it stays as it is.

    Args:
        model: A transformers model or gpt, or a module with one inside; it stays as it is.
        heads: How many heads of queries each block keeps, or which, for each block a rising list.
            Of a T5: for the self-attention of each stack, and for each attention across, in the
            order in which the model has them.
        mlp: How many inner units, or which; the encoder's blocks come first.
        width: How many hidden channels, or which.
        batches: What the model is looked at on; not needed where all is said by number.
        rescale: As above.

    Returns:
        A model of the same class that shares no tensor with the first; all its parameters can be
        trained. A BERT whose heads do not make up its hidden size any more is opened from a folder
        by `open_folder`, and in recipes as ``hf:FOLDER``.

    Raises:
        ModelError: The family is not known, or a number does not fit.
        DataError: Batches are needed and not there.
    """
    inner = described_in(model)
    family = family_of(model if inner is None else inner)
    if heads is None and mlp is None and width is None:
        raise ModelError("narrower needs a number of heads, mlp units or width, got none of them.")
    counted = [isinstance(each, int) for each in (heads, mlp, width)]
    measured = any(counted) or (width is not None and rescale and family.scaled)
    scores = width_scores(model, batches) if measured else None
    kept = _kept(inner, family, heads, mlp, width, scores)
    state = cut_state(inner, family, kept)
    config = _described(inner, family, kept)
    if kept.hidden is not None and family.scaled and rescale:
        assert scores is not None
        _rescale(state, config, family, kept.hidden, scores)
    return instead(model, inner, rebuilt(inner, config, state))


def _kept(
    inner: Any, family: Family, heads: Wish, mlp: Wish, width: Any, scores: WidthScores | None
) -> Kept:
    described, size = description_of(inner), head_size(inner)
    total = family.size(described, "heads")
    share = total // family.size(described, "groups") if family.grouped else 1
    attentions, networks = readers_of(family, inner)
    together = alike(family, attentions)
    asked = (
        None if scores is None else _by_group(_summed(scores.heads, attentions, together), share)
    )
    where = "attentions" if family.alike else "blocks"
    chosen = units("heads", heads, len(together), total, asked, share, where)
    queries = _by_part(together, chosen)
    inside = None if scores is None else scores.neurons
    most = family.size(described, "neurons")
    neurons = units("mlp", mlp, len(networks), most, inside)
    channels = None if scores is None else scores.channels[None]
    wish: Wish = width if width is None or isinstance(width, int) else [width]
    hidden = units("width", wish, 1, family.size(described, "hidden"), channels)
    return Kept(
        hidden=None if hidden is None else hidden[0],
        heads=queries,
        neurons=_by_part([[part] for part in networks], neurons),
        queries=rows_of_heads(queries, size),
        groups=rows_of_heads(queries, size, share),
    )


def _summed(scores: Tensor, parts: Iterable[str], together: Sequence[Sequence[str]]) -> Tensor:
    """Scores ``(L, A)`` of parts, summed over those that go together."""
    row = {part: number for number, part in enumerate(parts)}
    return torch.stack([scores[[row[part] for part in some]].sum(0) for some in together])


def _by_part(together: Sequence[Sequence[str]], chosen: list[Tensor] | None) -> Units:
    if chosen is None:
        return None
    pairs = zip(together, chosen, strict=True)
    return {part: each for parts, each in pairs for part in parts}


def _by_group(heads: Tensor, share: int) -> Tensor:
    """Each head's score is that of its group, so that groups stay together."""
    return heads.reshape(len(heads), -1, share).sum(-1).repeat_interleave(share, 1)


def _described(inner: Any, family: Family, kept: Kept) -> Any:
    config, size, names = description_of(inner), head_size(inner), family.names
    before = family.size(config, "heads")
    if kept.hidden is not None:
        setattr(config, names["hidden"], len(kept.hidden))
    if kept.neurons is not None:
        setattr(config, names["neurons"], len(next(iter(kept.neurons.values()))))
    heads = before if kept.heads is None else len(next(iter(kept.heads.values())))
    setattr(config, names["heads"], heads)
    if "size" in names:
        setattr(config, names["size"], size)
    else:
        say_head_size(config, size)
    if family.grouped:
        groups, hidden = family.size(config, "groups"), family.size(config, "hidden")
        setattr(config, names["groups"], groups * heads // before)
        if hidden % heads:
            raise ModelError(
                f"width: models of kind {kind_of(inner)!r} need a hidden size that their number of "
                f"heads divides, got {hidden} for {heads} heads: take {hidden - hidden % heads}."
            )
    return config


def _rescale(
    state: dict[str, Tensor], config: Any, family: Family, kept: Tensor, scores: WidthScores
) -> None:
    channels = len(next(iter(scores.energy.values())))
    divided = getattr(config, "scale_decoder_outputs", False) and "lm_head.weight" in state
    for path, energy in scores.energy.items():
        factor = 1.0
        before, after = float(energy.mean()), float(energy[kept].mean())
        if before > 0 and after > 0:
            factor = (after / before) ** 0.5
        if divided and path == family.divided:
            factor *= (len(kept) / channels) ** 0.5
        state[f"{path}.weight"] = state[f"{path}.weight"] * factor
    eps = family.names["eps"]
    setattr(config, eps, getattr(config, eps) * channels / len(kept))
