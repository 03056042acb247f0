"""What a model loses without one of its blocks.

Named perplexity importance in Muralidharan, Turuvekere Sreenivas, Joshi, Chochowski, Patwary,
Shoeybi, Catanzaro, Kautz, Molchanov: Compact Language Models via Pruning and Knowledge
Distillation, 2024, arXiv:2407.14679, where it is the perplexity of text; here it is the divergence
from the whole model, which is what distillation begins with, and needs no targets.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.shrunk.calibration import (
    Look,
    asking,
    calibration,
    hidden_in,
    real_tokens,
)
from tutelage.models.shrunk.pretrained import described_in
from tutelage.models.shrunk.stacks import stacks_of


def loss_left_out(model: nn.Module, batches: Iterable[Batch] | None) -> dict[str, Tensor]:
    r"""For every block: how far the model's answer is from its own without that block.

    .. math:: \ell_i = \mathbb{E}_t \, KL(p_t \| p_t^{(-i)})

    over counted positions, in nats; for models that answer without logits, the mean of
    :math:`1 - \cos` between their last hidden states.

    A pass over the batches is needed for each block, so a few batches must do.

    Args:
        model: Any model with equal blocks (`stacks_of`); it stays as it is.
        batches: What it is asked. Positions count where ``mask`` says so, or where there is no
            padding.

    Returns:
        For each stack of blocks, by path, ``(L,)`` of float64, at least 0.

    Raises:
        ModelError: There are no such blocks, or the model answers with neither logits nor hidden
            states.
        DataError: There are no batches.
    """
    found = calibration(batches, "left_out")
    inner = described_in(model)
    stacks = stacks_of(model if inner is None else inner)
    places = [(path, number) for path, blocks in stacks.items() for number in range(len(blocks))]
    left: list[tuple[str, int]] = []
    looks = {
        block: _skip((path, number), left)
        for path, blocks in stacks.items()
        for number, block in enumerate(blocks.values())
    }
    losses = dict.fromkeys(places, 0.0)
    count = 0
    with asking(model, looks) as ask:
        for batch in found:
            whole, kind = _answer_of(ask(batch))
            counted = _counted(batch, whole)
            count += int(counted.sum())
            for place in places:
                left.append(place)
                without, _ = _answer_of(ask(batch))
                left.clear()
                losses[place] += float(_apart(whole, without, kind)[counted].double().sum())
    return {
        path: torch.tensor(
            [losses[path, number] / max(count, 1) for number in range(len(blocks))],
            dtype=torch.float64,
        )
        for path, blocks in stacks.items()
    }


def _skip(place: tuple[str, int], left: list[tuple[str, int]]) -> Look:
    def look(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if place not in left:
            return None
        hidden = hidden_in(args, kwargs)
        return (hidden, *output[1:]) if isinstance(output, (tuple, list)) else hidden

    return look


def _answer_of(answer: Any) -> tuple[Tensor, str]:
    if isinstance(answer, Tensor):
        return answer, "logits"
    for kind in ("logits", "last_hidden_state"):
        found = answer.get(kind) if isinstance(answer, Mapping) else None
        if isinstance(found, Tensor):
            return found, kind
    raise ModelError(
        f"the model answered with a {type(answer).__name__} that holds neither logits nor a last "
        "hidden state: choose layers by 'importance' or 'even'."
    )


def _apart(whole: Tensor, without: Tensor, kind: str) -> Tensor:
    whole, without = whole.float(), without.float()
    if kind != "logits":
        return 1 - F.cosine_similarity(whole, without, dim=-1)
    ours, theirs = F.log_softmax(without, -1), F.log_softmax(whole, -1)
    return (theirs.exp() * (theirs - ours)).sum(-1)


def _counted(batch: Batch, answer: Tensor) -> Tensor:
    mask = batch.mask
    if mask is not None and mask.shape == answer.shape[:-1]:
        return mask.to(answer.device)
    asked_twice = isinstance(batch.inputs, Mapping) and "decoder_input_ids" in batch.inputs
    return real_tokens(batch, answer, decoder=asked_twice)
