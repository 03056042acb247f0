"""Students that begin as their teacher with fewer heads, inner units and hidden channels."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.shrunk.activations import WidthScores, head_size, width_scores
from tutelage.models.shrunk.families import Family, family_of
from tutelage.models.shrunk.kept import Kept, Units, Wish, cut_state, rows_of_heads, units
from tutelage.models.shrunk.odd_heads import say_head_size
from tutelage.models.shrunk.pretrained import instead, pretrained_in, rebuilt


def narrower(
    model: nn.Module,
    *,
    heads: Wish = None,
    mlp: Wish = None,
    width: int | Sequence[int] | None = None,
    batches: Iterable[Batch] | None = None,
    rescale: bool = True,
) -> nn.Module:
    r"""A copy of a Llama-like or BERT-like model with smaller tensors.

    Parts that matter least by `width_scores` are left out: heads and inner units by block, hidden
    channels everywhere. Where keys and values have fewer heads than queries, whole groups go, and
    a group matters as much as its heads of queries in sum.

    With fewer channels, normalisation by the root of the mean square sees another mean. So its
    weights are multiplied by the root of the ratio of the mean squares before and after, measured
    on the batches, and its epsilon by H / H'; with this, leaving out channels that are zero changes
    nothing. Minitron leaves them as they are (``rescale=False``). Layer normalisation also
    subtracts a mean, which no weight can make up for: it stays as it is.

    Args:
        model: A transformers model, or a module with one inside; it stays as it is.
        heads: How many heads of queries each block keeps, or which, for each block a rising list.
        mlp: How many inner units, or which.
        width: How many hidden channels, or which.
        batches: What the model is looked at on; not needed where all is said by number.
        rescale: As above.

    Returns:
        A model of the same class that shares no tensor with the first; all its parameters can be
        trained. A BERT whose heads do not make up its hidden size any more is opened from a folder
        by `open_folder`.

    Raises:
        ModelError: The family is not known, or a number does not fit.
        DataError: Batches are needed and not there.
    """
    inner = pretrained_in(model)
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
        _rescale(state, config, kept.hidden, scores)
    return instead(model, inner, rebuilt(inner, config, state))


def _kept(
    inner: Any, family: Family, heads: Wish, mlp: Wish, width: Any, scores: WidthScores | None
) -> Kept:
    config, size = inner.config, head_size(inner)
    blocks, total = config.num_hidden_layers, config.num_attention_heads
    groups = config.num_key_value_heads if family.grouped else total
    share = total // groups
    queries: Units = None
    if heads is not None:
        asked = None if scores is None else _by_group(scores.heads, share)
        queries = units("heads", heads, blocks, total, asked, share)
    inside = None if scores is None else scores.neurons
    neurons = units("mlp", mlp, blocks, config.intermediate_size, inside)
    channels = None if scores is None else scores.channels[None]
    wish: Wish = width if width is None or isinstance(width, int) else [width]
    hidden = units("width", wish, 1, config.hidden_size, channels)
    return Kept(
        hidden=None if hidden is None else hidden[0],
        heads=queries,
        neurons=neurons,
        queries=rows_of_heads(queries, size),
        groups=rows_of_heads(queries, size, share),
    )


def _by_group(heads: Tensor, share: int) -> Tensor:
    """Each head's score is that of its group, so that groups stay together."""
    return heads.reshape(len(heads), -1, share).sum(-1).repeat_interleave(share, 1)


def _described(inner: Any, family: Family, kept: Kept) -> Any:
    config, size = copy.deepcopy(inner.config), head_size(inner)
    before, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", 0)
    if kept.hidden is not None:
        config.hidden_size = len(kept.hidden)
    if kept.neurons is not None:
        config.intermediate_size = len(kept.neurons[0])
    heads = before if kept.heads is None else len(kept.heads[0])
    config.num_attention_heads = heads
    if family.grouped:
        config.head_dim = size
        config.num_key_value_heads = groups * heads // before
        if config.hidden_size % heads:
            raise ModelError(
                f"width: models of kind {config.model_type!r} need a hidden size that their number "
                f"of heads divides, got {config.hidden_size} for {heads} heads: take "
                f"{config.hidden_size - config.hidden_size % heads}."
            )
    else:
        say_head_size(config, size)
    return config


def _rescale(state: dict[str, Tensor], config: Any, kept: Tensor, scores: WidthScores) -> None:
    for path, energy in scores.energy.items():
        before, after = energy.mean(), energy[kept].mean()
        if before > 0 and after > 0:
            weight = state[f"{path}.weight"]
            state[f"{path}.weight"] = weight * float((after / before).sqrt())
    config.rms_norm_eps = config.rms_norm_eps * len(next(iter(scores.energy.values()))) / len(kept)
