"""Tensors as llama.cpp names, orders and rounds them.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.errors import ExportError
from tutelage.deployment.formats.gguf_makes import Shape, rope_factors
from tutelage.models.foreign import library

Array = NDArray[Any]

ROPE = "rope_freqs.weight"
"""What rotary frequencies are divided by; it is no parameter of the model."""

_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_THEIRS = {
    **{theirs: ours for ours, theirs in _WHOLE.items()},
    **{theirs: ours for ours, theirs in _PARTS.items()},
}


@dataclass(frozen=True)
class Kind:
    """In what numbers the matrices of a file are; vectors stay in float32.

    Attributes:
        name: As in ``general.file_type``, in short.
        type: Of GGML's quantization types.
        file_type: The number of that kind of file.
        relative: Largest rounding error of a number, as a share of it.
        absolute: Largest rounding error beside that, for very small numbers.
        of_block: Largest rounding error as a share of the largest of 32 neighbours.
    """

    name: str
    type: str
    file_type: int
    relative: float = 0.0
    absolute: float = 0.0
    of_block: float = 0.0


KINDS: Mapping[str, Kind] = {
    each.name: each
    for each in (
        Kind("f32", "F32", 0),
        Kind("f16", "F16", 1, relative=2.0**-11, absolute=2.0**-25),
        Kind("bf16", "BF16", 32, relative=2.0**-8, absolute=2.0**-134),
        # half a step of amax / 127, and the step itself rounded to float16
        Kind("q8_0", "Q8_0", 7, absolute=127 * 2.0**-25, of_block=1 / 254 + 2.0**-11 + 2.0**-20),
    )
}
"""By name: float32, float16, bfloat16, and 8 bits with one scale for 32 numbers."""

_BLOCK = 32


def their_name(name: str) -> str:
    """What llama.cpp calls a tensor of a Llama of transformers.

    Raises:
        ExportError: It has none of that kind.

    Example:
        >>> their_name("model.layers.3.self_attn.q_proj.weight")
        'blk.3.attn_q.weight'
    """
    if name in _WHOLE:
        return _WHOLE[name]
    found = re.fullmatch(r"model\.layers\.(\d+)\.([\w.]+)\.(weight|bias)", name)
    if found is None or found[2] not in _PARTS:
        raise ExportError(f"llama.cpp has no place for the tensor {name!r:.80} of this model.")
    return f"blk.{found[1]}.{_PARTS[found[2]]}.{found[3]}"


def our_name(name: str) -> str:
    """The other way round.

    >>> our_name("blk.3.ffn_gate.weight"), our_name("output.weight")
    ('model.layers.3.mlp.gate_proj.weight', 'lm_head.weight')
    """
    if name in _THEIRS:
        return _THEIRS[name]
    _, block, part, end = name.split(".")
    return f"model.layers.{block}.{_THEIRS[part]}.{end}"


def turned_pairs(name: str, shape: Shape) -> int | None:
    """How many heads a tensor's rows fall into, if their order is another there; else None.

    Llama of transformers turns number i of a head with number i + d/2, llama.cpp's ``llama`` with
    its neighbour. Its ``qwen2`` does as transformers.
    """
    if shape.architecture != "llama":
        return None
    part = name.split(".")[-2]
    return {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(part)


def neighbours(rows: Array, heads: int) -> Array:
    """Rows ``(heads * d, ...)`` with i and i + d/2 of each head put side by side.

    >>> neighbours(np.arange(6), 1)
    array([0, 3, 1, 4, 2, 5])
    """
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halves(rows: Array, heads: int) -> Array:
    """What `neighbours` undoes.

    >>> halves(neighbours(np.arange(12), 2), 2)
    array([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11])
    """
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tensors_of(model: Any, shape: Shape) -> Iterator[tuple[str, Array]]:
    """Every tensor of the file in float32, by llama.cpp's name and in its order.

    Raises:
        ExportError: There is a tensor that llama.cpp has no place for.
    """
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    factors = rope_factors(model, shape)
    if factors is not None:
        yield ROPE, factors.numpy()
    state: Mapping[str, Tensor] = model.state_dict()
    for name, tensor in state.items():
        theirs = their_name(name)
        if tied and theirs == "output.weight":
            continue
        array = tensor.detach().float().cpu().numpy()
        heads = turned_pairs(theirs, shape)
        yield theirs, array if heads is None else neighbours(array, heads)


def kind_of(name: str, array: Array, kind: Kind) -> Kind:
    """In what numbers this tensor is: vectors in float32; rows that are no blocks in float16."""
    if array.ndim < 2 or name == ROPE:
        return KINDS["f32"]
    return KINDS["f16"] if kind.of_block and array.shape[-1] % _BLOCK else kind


def rounded(array: Array, kind: Kind) -> Array:
    """The tensor's bytes in such numbers, as GGML keeps them; float32 and float16 as they are."""
    if kind.name in ("f32", "f16"):
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, np.float32 if kind.name == "f32" else np.float16)
    gguf = library("gguf", "hf")
    packed: Array = gguf.quants.quantize(
        np.ascontiguousarray(array, np.float32), gguf.GGMLQuantizationType[kind.type]
    )
    return packed


def refuse_wrong(name: str, found: Array, wanted: Array, kind: Kind) -> None:
    """Raise `ExportError` where a tensor that was read back is further off than rounding can be."""
    if found.shape != wanted.shape:
        raise ExportError(f"{name} of the file is {found.shape}, and the model's {wanted.shape}.")
    exact = wanted.astype(np.float64)
    allowed = kind.relative * np.abs(exact) + kind.absolute
    if kind.of_block:
        blocks = np.abs(exact).reshape(-1, _BLOCK)
        largest = np.repeat(blocks.max(1), _BLOCK).reshape(exact.shape)
        allowed = allowed + kind.of_block * largest
    with np.errstate(invalid="ignore"):
        good = np.abs(found.astype(np.float64) - exact) <= allowed
    if not bool(good.all()):
        raise ExportError(
            f"{name} of the file is not the model's: {1 - good.mean():.2%} of its numbers are off "
            f"by more than {kind.name} rounds, as numbers beyond its range are."
        )
