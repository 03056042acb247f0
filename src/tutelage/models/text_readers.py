"""How language models of the transformers library take a batch of tokens.

Inputs by name: ``input_ids`` ``(N, T)`` always, ``attention_mask`` ``(N, T)`` where rows are
padded, ``position_ids`` ``(N, T)`` where several documents share a row: they begin anew at each,
and no document sees another. Encoder-decoders read ``decoder_input_ids`` beside them: the targets
shifted to the right, as the data makes them.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError, suggest
from tutelage.models.documents import padding_apart, positions_of, together


def causal_lm(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model in which a token sees what was before it.

    Several documents in a row are told to the library by their positions alone: beside a mask of
    padding it would not keep them apart (transformers 5), so padding is made of documents, too.

    Returns:
        Logits ``(N, T, V)``; of a classifier ``(N, C)``.

    Raises:
        ModelError: The model takes no positions and documents share rows, or it does not know an
            input or a token.
    """
    named = named_tokens(inputs)
    mask, places = named.get("attention_mask"), named.get("position_ids")
    if mask is not None and not model_can_write(model):
        named["input_ids"] = _own_padding(model, named["input_ids"], mask)
    if places is None:
        return logits_of(model, answer_of(model, placed(model, named)))
    _check_positions(model)
    named["position_ids"] = padding_apart(places, mask)
    named.pop("attention_mask", None)
    return logits_of(model, answer_of(model, named))


def encoder(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model in which every token sees the whole text: for masked words, or a classifier.

    Returns:
        Logits ``(N, T, V)``; of a classifier ``(N, C)``.

    Raises:
        ModelError: Documents share rows, and this model cannot keep them apart; or as `causal_lm`.
    """
    return logits_of(model, answer_of(model, bidirectional(model, named_tokens(inputs))))


def seq2seq(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that reads one text and answers with another.

    Returns:
        Logits ``(N, T, V)`` at the places of ``decoder_input_ids`` ``(N, T)``; of a classifier
        ``(N, C)``.

    Raises:
        ModelError: ``decoder_input_ids`` are not there, or documents share rows.
    """
    named = named_tokens(inputs)
    if "position_ids" in named:
        raise ModelError(
            f"{type(model).__name__} reads one text a row, and this data packs several "
            "(position_ids): turn packing off."
        )
    if "decoder_input_ids" not in named and model_can_write(model):
        raise ModelError(
            f"{type(model).__name__} is an encoder-decoder and reads decoder_input_ids beside "
            f"input_ids, and the data gives {', '.join(named)}: use a source of pairs of texts."
        )
    return logits_of(model, answer_of(model, named))


def text_reader_of(model: nn.Module) -> Any:
    """Which of the readers here a model of the transformers library needs."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return seq2seq
    sees_before_only = any(getattr(part, "is_causal", False) is True for part in model.modules())
    return causal_lm if sees_before_only or model_can_write(model) else encoder


def model_can_write(model: nn.Module) -> bool:
    """Whether a model of the transformers library has a head that writes the next token."""
    can = getattr(model, "can_generate", None)
    return bool(callable(can) and can())


def bidirectional(model: nn.Module, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of an encoder, with documents of one row kept apart by a mask of pairs."""
    places, mask = named.get("position_ids"), named.get("attention_mask")
    if places is None:
        return placed(model, named)
    _check_positions(model)
    config: Any = getattr(model, "config", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if getattr(config, "sliding_window", None) or kinds - {"full_attention"}:
        raise ModelError(
            f"{type(model).__name__} has layers that see a part of the text only, and documents "
            "that share a row cannot be kept apart there: turn packing off."
        )
    pairs = together(places, mask)
    if getattr(config, "_attn_implementation", "sdpa") != "sdpa":
        dtype = next(model.parameters()).dtype  # other ways of attending add numbers
        lowest = torch.finfo(dtype).min
        pairs = torch.zeros_like(pairs, dtype=dtype).masked_fill(~pairs, lowest)
    apart = padding_apart(places, mask) + _first_position(model)
    return named | {"attention_mask": pairs, "position_ids": apart}


def placed(model: nn.Module, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of one text a row, with its positions where padding may stand before it.

    Models that count positions from their own token of padding are left to do so.
    """
    mask = named.get("attention_mask")
    if mask is None or "position_ids" not in parameters_of(model) or _first_position(model):
        return named
    return named | {"position_ids": positions_of(mask)}


def named_tokens(inputs: Inputs) -> dict[str, Tensor]:
    """Inputs by name; a bare tensor is the tokens."""
    return {"input_ids": inputs} if isinstance(inputs, Tensor) else dict(inputs)


def parameters_of(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """What the model's forward pass takes, by name; of one with adapters, the model's inside."""
    inside = getattr(model, "get_base_model", None)
    asked = inside() if callable(inside) else model
    return inspect.signature(asked.forward).parameters


def answer_of(model: nn.Module, named: Mapping[str, Tensor], **options: Any) -> Any:
    """What the model returns, keeping nothing for writing on.

    Raises:
        ModelError: It does not know an input or a token.
    """
    known = parameters_of(model)
    for name in named:
        if name not in known:
            tensors = [one for one in known if one.endswith(("_ids", "_mask"))]
            raise ModelError(
                f"{type(model).__name__} takes no input {name!r}, which the data gives. "
                f"{suggest(name, tensors)}"
            )
    if "use_cache" in known:
        options = {"use_cache": False} | options
    try:
        return model(**named, **options)
    except IndexError as error:
        raise ModelError(_beyond(model, named)) from error


def logits_of(model: nn.Module, answer: Any) -> Tensor:
    """The logits of what a model of the transformers library returned."""
    logits = answer.get("logits") if isinstance(answer, Mapping) else None
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"{type(model).__name__} answers without logits: load it with a head (hf: with the "
            "task causal-lm, masked-lm or sequence-classification), or as task embedding."
        )
    return logits


def _check_positions(model: nn.Module) -> None:
    if "position_ids" not in parameters_of(model):
        raise ModelError(
            f"{type(model).__name__} takes no position_ids, by which documents that share a row "
            "are kept apart: turn packing off."
        )


def _own_padding(model: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """The model's own token of padding where there is padding: by it classifiers find the end."""
    config: Any = getattr(model, "config", None)
    own = getattr(config, "pad_token_id", None)
    if own is None:
        raise ModelError(
            f"{type(model).__name__} finds where a text ends by its token of padding, and its "
            "configuration names none: set model.config.pad_token_id."
        )
    return tokens.masked_fill(mask == 0, int(own))


def _first_position(model: nn.Module) -> int:
    """Models of RoBERTa's kind count positions from behind that of padding."""
    for name, module in model.named_modules():
        own = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and own is not None:
            return int(own) + 1
    return 0


def _beyond(model: nn.Module, named: Mapping[str, Tensor]) -> str:
    config = getattr(model, "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    tokens = next(iter(named.values()))
    return (
        f"{type(model).__name__} knows {getattr(config, 'vocab_size', '?')} tokens and "
        f"{longest or '?'} positions, and the batch has token {int(tokens.max())} and "
        f"{tokens.shape[-1]} positions: take its own tokenizer, or cut the texts."
    )
