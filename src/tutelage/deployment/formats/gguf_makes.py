"""Which language models llama.cpp knows, and what it must be told of them.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import ExportError, ModelError
from tutelage.models import as_llama
from tutelage.models.observed import Frozen, Observed
from tutelage.models.shrunk import has_adapters, merged
from tutelage.models.zoo.gpt import GPT

ARCHITECTURES: Mapping[str, str] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
}
"""Classes of the transformers library, and what llama.cpp calls the same network."""

_MAKES = f"{', '.join(ARCHITECTURES)} (SmolLM2 is a Llama), and the zoo's gpt with swiglu"
_ROPES = {"llama": ("default", "linear", "llama3"), "qwen2": ("default",)}


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder, in llama.cpp's sense.

    Attributes:
        architecture: ``llama`` or ``qwen2``.
        context: Tokens in a row that it was made for.
        width: Numbers in a token.
        inner: Numbers inside a block's network.
        blocks: How many.
        heads: Of queries.
        kv_heads: Of keys and values.
        head_size: Numbers in a head; heads need not make up the width.
        vocabulary: Rows of the embedding.
        base: Of the rotary positions.
        epsilon: Of the normalisation.
    """

    architecture: str
    context: int
    width: int
    inner: int
    blocks: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    base: float
    epsilon: float


def plain_model(model: nn.Module) -> Any:
    """The model of the transformers library that this one is: unwrapped, adapters merged.

    Raises:
        ExportError: llama.cpp knows no such make.
    """
    if isinstance(model, Frozen):
        model = model.observed
    if isinstance(model, Observed):
        model = model.model
    if has_adapters(model):
        model = merged(model)
    if isinstance(model, GPT):
        try:
            model = as_llama(model)
        except ModelError as error:
            raise ExportError(
                "llama.cpp has no network with rotary positions, RMS normalisation and GELU "
                f"without a gate, which this gpt is: gguf is made of {_MAKES}."
            ) from error
    kind = type(model).__name__
    if kind not in ARCHITECTURES or not type(model).__module__.startswith("transformers."):
        raise ExportError(f"gguf is not made of a {kind}: it is made of {_MAKES}.")
    return model


def shape_of(model: Any) -> Shape:
    """The sizes of a model of one of these makes.

    Raises:
        ExportError: It computes something that llama.cpp does not.
    """
    config, architecture = model.config, ARCHITECTURES[type(model).__name__]
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = dict(config.rope_parameters)
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    refused = {
        f"its inner networks use {config.hidden_act}, and llama.cpp's silu": (
            config.hidden_act not in ("silu", "swish")
        ),
        f"its rotary positions are of type {rope['rope_type']}, possible are "
        f"{', '.join(_ROPES[architecture])}": rope["rope_type"] not in _ROPES[architecture],
        "its rotary positions turn a part of each head only": (
            2 * len(model.model.rotary_emb.inv_freq) != size
        ),
        f"its blocks see no further than {window} tokens, and llama.cpp's see all": (
            bool(kinds - {"full_attention"})
            if kinds
            else window is not None and window < config.max_position_embeddings
        ),
    }
    for why, holds in refused.items():
        if holds:
            raise ExportError(f"this {type(model).__name__} cannot be a gguf file: {why}.")
    return Shape(
        architecture=architecture,
        context=int(config.max_position_embeddings),
        width=int(config.hidden_size),
        inner=int(config.intermediate_size),
        blocks=int(config.num_hidden_layers),
        heads=int(config.num_attention_heads),
        kv_heads=int(config.num_key_value_heads),
        head_size=int(size),
        vocabulary=int(model.get_input_embeddings().weight.shape[0]),
        base=float(rope["rope_theta"]),
        epsilon=float(config.rms_norm_eps),
    )


def rope_factors(model: Any, shape: Shape) -> Tensor | None:
    r"""By what llama.cpp divides the frequencies of rotary positions ``(head_size / 2,)``.

    .. math:: f_i = b^{-2i/d} / \omega_i

    with the model's own frequencies :math:`\omega`; None where these are the usual ones.
    """
    own = model.model.rotary_emb.inv_freq.detach().double().cpu()
    factors = usual_frequencies(shape) / own
    return None if bool(((factors - 1).abs() < 1e-5).all()) else factors.float()


def usual_frequencies(shape: Shape) -> Tensor:
    r"""The frequencies :math:`b^{-2i/d}` of rotary positions ``(head_size / 2,)``, in float64."""
    pairs = torch.arange(0, shape.head_size, 2, dtype=torch.float64)
    return torch.as_tensor(shape.base ** (-pairs / shape.head_size))
