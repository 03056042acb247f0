"""The logits of one next token after the other, as cheaply as the model allows."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.observed import Observed
from tutelage.models.readers import tokens as read_tokens
from tutelage.models.text_readers import answer_of, causal_lm, logits_of, parameters_of
from tutelage.models.zoo.gpt import GPT
from tutelage.models.zoo.key_values import KeyValues


def next_logits(
    observed: Observed, tokens: Tensor, mask: Tensor, places: Tensor, length: int
) -> Iterator[Tensor]:
    """Logits ``(N, V)`` of the token at ``length``, then at ``length + 1``, and so on.

    Between two of them the caller fills in the token that it chose.

    Args:
        observed: A language model, in eval mode.
        tokens: ``(N, length + most)``, filled up to ``length``.
        mask: As large, 0 where there is padding.
        places: As large: the position of each token in its own row.
        length: Tokens of the prompts.
    """
    if isinstance(observed.model, GPT) and observed.read is read_tokens:
        steps = _of_gpt(observed.model, tokens, mask, places, length)
    elif observed.read is causal_lm and _keeps(observed):
        steps = _of_transformers(observed, tokens, mask, places, length)
    else:
        return _anew(observed, tokens, mask, length)
    if observed.classes is None:
        return steps
    return (logits.index_select(-1, observed.classes) for logits in steps)


def _keeps(observed: Observed) -> bool:
    return {"past_key_values", "use_cache", "position_ids"} <= set(parameters_of(observed.model))


def _of_gpt(
    model: GPT, tokens: Tensor, mask: Tensor, places: Tensor, length: int
) -> Iterator[Tensor]:
    cache, start = KeyValues(tokens.shape[1]), 0
    for stop in range(length, tokens.shape[1]):
        now = slice(start, stop)
        yield model(tokens[:, now], mask[:, :stop], places[:, now], cache)[:, -1]
        start = stop


def _of_transformers(
    observed: Observed, tokens: Tensor, mask: Tensor, places: Tensor, length: int
) -> Iterator[Tensor]:
    model, start = observed.model, 0
    options: dict[str, Any] = {"use_cache": True}
    if "logits_to_keep" in parameters_of(model):
        options["logits_to_keep"] = 1
    for stop in range(length, tokens.shape[1]):
        now = slice(start, stop)
        named = {"input_ids": tokens[:, now], "attention_mask": mask[:, :stop]}
        answer = answer_of(model, named | {"position_ids": places[:, now]}, **options)
        options["past_key_values"] = answer.past_key_values
        yield logits_of(model, answer)[:, -1]
        start = stop


def _anew(observed: Observed, tokens: Tensor, mask: Tensor, length: int) -> Iterator[Tensor]:
    for stop in range(length, tokens.shape[1]):
        named = {"input_ids": tokens[:, :stop], "attention_mask": mask[:, :stop]}
        logits = observed(Batch(named)).logits
        if logits.ndim != 3 or logits.shape[1] != stop:
            raise ModelError(
                f"{type(observed.model).__name__} answers {tuple(logits.shape)} to {stop} tokens, "
                "and one that writes answers (N, T, V): load it with the task causal-lm."
            )
        yield logits[:, -1]
