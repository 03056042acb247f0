"""What writing costs: time to the first token, tokens a second after it, and memory."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import DataError, ModelError
from tutelage.evaluation.costs.latency import (
    Effort,
    Run,
    _all_evaluating,
    _threads,
    measure_latency,
)
from tutelage.evaluation.costs.memory import peak_of
from tutelage.models import Draw, Observed, generate, seq2seq

EFFORT = Effort(warmup=1, calls=6, turn=3, seconds=10.0)
"""A call writes many tokens, so few calls are enough for a median."""


@dataclass(frozen=True)
class WritingCost:
    """One model that goes on with one prompt, the likeliest token each time, keys and values kept.

    Attributes:
        first_ms: From the prompt to the first token, milliseconds: the median.
        tokens_per_second: Of the tokens after the first; None where the clock could not tell them
            from it.
        memory_bytes: Tensors alive at once at the worst moment, beside the weights, as
            `tutelage.evaluation.costs.memory.peak_memory` counts; None where they are not seen.
        prompt_tokens: Tokens that were read.
        tokens: Tokens that were written after the first.
        calls: Of each kind that were measured.
        threads: How many an operation may use.
    """

    first_ms: float
    tokens_per_second: float | None
    memory_bytes: int | None
    prompt_tokens: int
    tokens: int
    calls: int
    threads: int = 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def writing_costs(
    models: Mapping[str, Observed],
    prompt: Tensor,
    *,
    tokens: int = 32,
    threads: int = 1,
    effort: Effort = EFFORT,
) -> dict[str, WritingCost]:
    """Time models that write, in turns, in PyTorch on the CPU, one text at a time.

    What follows the first token takes ``median(all) - median(first)``: both are measured as whole
    calls. Every model writes as many tokens, whatever it says: none ends a text.

    Args:
        models: By name, on the CPU: causal ones, or encoder-decoders, which read the prompt by
            their encoder.
        prompt: Token numbers ``(1, P)``.
        tokens: Written after the first.
        threads: How many an operation may use.
        effort: How often, and for how long in all.

    Returns:
        A `WritingCost` for each name.

    Raises:
        DataError: The prompt is empty or of several rows, or nothing is to be written.
        ModelError: A model does not write, or has fewer positions than are needed.

    Example:
        >>> from tutelage.models import build_model
        >>> net = Observed(build_model({"gpt": {"layers": 1, "width": 16}}, classes=9, shape=(4,)))
        >>> found = writing_costs({"net": net}, torch.zeros(1, 5, dtype=torch.long), tokens=4)
        >>> found["net"].prompt_tokens, found["net"].tokens, found["net"].first_ms > 0
        (5, 4, True)
    """
    if prompt.ndim != 2 or len(prompt) != 1 or prompt.shape[1] == 0 or tokens < 1 or threads < 1:
        raise DataError(
            f"writing is measured on one prompt (1, P) and 1 token at least, got "
            f"{tuple(prompt.shape)} and {tokens} on {threads} threads."
        )
    if not models:
        return {}
    with _all_evaluating(models), _threads(threads), torch.inference_mode():
        runs: dict[str, Run] = {}
        for name, model in models.items():
            write = writing_of(model, prompt)
            runs[f"first {name}"] = partial(write, 1)
            runs[f"whole {name}"] = partial(write, 1 + tokens)
        times = measure_latency(runs, backend="torch", threads=threads, effort=effort)
        memory = {name: _memory(runs[f"whole {name}"]) for name in models}
    found = {}
    for name in models:
        first, whole = times[f"first {name}"], times[f"whole {name}"]
        after = whole.p50 - first.p50
        found[name] = WritingCost(
            first_ms=first.p50,
            tokens_per_second=1000 * tokens / after if after > 0 else None,
            memory_bytes=memory[name],
            prompt_tokens=prompt.shape[1],
            tokens=tokens,
            calls=min(first.calls, whole.calls),
            threads=threads,
        )
    return found


def writing_of(model: Observed, prompt: Tensor) -> Callable[[int], object]:
    """A function that lets a model write so many tokens behind ``prompt``, the likeliest ones."""
    if model.read is seq2seq:
        return partial(_second_text, model.model, prompt)
    seen = torch.ones_like(prompt)
    return lambda most: generate(model, prompt, seen, Draw(most, temperature=0.0), seed=0).tokens


def _second_text(model: nn.Module, prompt: Tensor, most: int) -> Tensor:
    """What an encoder-decoder answers to a text, ``(1, most)``."""
    network: Any = model
    begin = getattr(network.config, "decoder_start_token_id", None)
    if begin is None:
        raise ModelError(
            f"the configuration of {type(model).__name__} names no decoder_start_token_id, by "
            "which its answers begin."
        )
    read = network.get_encoder()(input_ids=prompt)
    token, kept, said = prompt.new_full((1, 1), begin), None, []
    for _ in range(most):
        answer = network(
            encoder_outputs=read, decoder_input_ids=token, past_key_values=kept, use_cache=True
        )
        kept, token = answer.past_key_values, answer.logits[:, -1:].argmax(-1)
        said.append(token)
    return torch.cat(said, dim=1)


def _memory(run: Run) -> int | None:
    try:
        return peak_of(run)
    except ModelError:
        return None
