"""A language model as a GGUF file, which llama.cpp and whatever is built on it runs.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, suggest
from tutelage.core.text import TextTokenizer
from tutelage.deployment.formats.gguf_back import GgufFile
from tutelage.deployment.formats.gguf_makes import Shape, plain_model, shape_of
from tutelage.deployment.formats.gguf_tensors import (
    KINDS,
    Kind,
    kind_of,
    refuse_wrong,
    rounded,
    tensors_of,
)
from tutelage.deployment.formats.gguf_tokens import Vocabulary, vocabulary_of, written
from tutelage.deployment.formats.kept import keep_checked
from tutelage.deployment.parity import Parity, parity_of, refuse_difference
from tutelage.evaluation.predict import evaluating
from tutelage.models.foreign import library
from tutelage.models.observed import Frozen, Observed

WHAT = "the GGUF file"
_PROBES = (
    "It's 3.14159, isn't it? In 1984 they'd 12,345 of THEM.",
    "  two  spaces,\ttabs\n\n\nand lines\r\n  \n end ",
    "na\u00efve caf\u00e9 \u2014 \u4f60\u597d \u043c\u0438\u0440 \U0001f600\U0001f1e9\U0001f1ea",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0663\u0664 \u00bd \u2168 x\u00b2 \u3000\u00a0 \u1e9e",
    "def f(x):\n    return x['a'] ** 2  # <b>&amp;</b> https://a.b/c?d=1",
)


def export_gguf(
    model: Observed | Frozen,
    examples: Batch,
    path: str | Path,
    tokenizer: TextTokenizer,
    *,
    kind: str = "f32",
    source: str = "",
    tolerance: float = 1e-4,
    least_equal: float = 0.9,
) -> Parity:
    """Write a language model with its tokenizer as a ``.gguf`` file, and keep it only if it is it.

    The file is read back without llama.cpp. Each of its tensors must be the model's up to what its
    numbers round; its tokenizer must cut the examples and a few hard sentences as the model's does;
    and a model that is made of the file alone must give the model's logits: in float32 to the
    tolerance, otherwise the same likeliest token nearly everywhere. Matrices whose rows are no
    multiple of 32 are float16 in a ``q8_0`` file; vectors are float32 in every file.

    Args:
        model: A Llama, Mistral or Qwen2 of transformers, or the zoo's ``gpt`` with swiglu; heads
            need not make up the width, adapters are merged.
        examples: Rows of tokens of the data, a few; the targets are not used.
        path: Where the file goes; an older one is replaced only by a good one.
        tokenizer: Byte-level BPE that cuts text as one that llama.cpp knows by name, or bytes.
        kind: ``f32``, ``f16``, ``bf16`` or ``q8_0``.
        source: What this model is and where it came from: ``general.name``.
        tolerance: Largest difference of a logit in float32, as a share of the largest.
        least_equal: Least share of places with the same likeliest token, in other numbers.

    Returns:
        What the comparison of logits found; ``equal_top1`` is of places.

    Raises:
        ExportError: llama.cpp knows no such model or tokenizer, or the file is not the model.
        NotInstalled: gguf is not here.
    """
    library("gguf", "hf")
    if kind not in KINDS:
        raise ExportError(f"there are no gguf files of {kind!r:.40}. {suggest(kind, KINDS)}")
    if not isinstance(model, Observed | Frozen):
        raise ExportError(f"an Observed or a Frozen is exported, got a {type(model).__name__}.")
    whole, plain = model.observed if isinstance(model, Frozen) else model, plain_model(model)
    rows = _rows(examples)
    shape = shape_of(plain)
    words = vocabulary_of(tokenizer, shape.vocabulary, plain.config)

    def write(made: Path) -> None:
        _write(made, plain, shape, words, KINDS[kind], source)

    def check(made: Path) -> Parity:
        file = GgufFile(made)
        _check_tensors(file, plain, shape, KINDS[kind])
        _check_tokens(file, tokenizer, rows)
        parity = _compared(whole, file, rows, tolerance)
        if kind == "f32":
            refuse_difference(parity, tolerance, what=WHAT)
        elif not parity.equal_top1 >= least_equal:
            raise ExportError(
                f"{WHAT} in {kind} foresees another token in {1 - parity.equal_top1:.1%} of the "
                f"places of {parity.examples} rows, and {1 - least_equal:.1%} are allowed: nothing "
                "was written."
            )
        return parity

    return keep_checked(Path(path), write, check, WHAT)


def _rows(examples: Batch) -> Tensor:
    """The tokens of the examples ``(N, T)``."""
    given = examples.inputs
    if isinstance(given, Tensor) or "input_ids" not in given or not len(examples):
        raise ExportError("gguf files hold language models: give rows of tokens (input_ids).")
    return given["input_ids"].cpu()


def _write(
    made: Path, model: Any, shape: Shape, words: Vocabulary, kind: Kind, source: str
) -> None:
    gguf = library("gguf", "hf")
    writer = gguf.GGUFWriter(made, shape.architecture)
    try:
        _describe(writer, shape, kind, source)
        _put_tokens(writer, words)
        for name, array in tensors_of(model, shape):
            own = kind_of(name, array, kind)
            writer.add_tensor(
                name, rounded(array, own), raw_dtype=gguf.GGMLQuantizationType[own.type]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _describe(writer: Any, shape: Shape, kind: Kind, source: str) -> None:
    writer.add_type("model")
    writer.add_name(source or "student")
    writer.add_file_type(kind.file_type)
    if kind.of_block:
        writer.add_quantization_version(library("gguf", "hf").GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.blocks)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _put_tokens(writer: Any, words: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.begin)
    writer.add_eos_token_id(words.end)
    if words.padding is not None:
        writer.add_pad_token_id(words.padding)
    writer.add_add_bos_token(words.adds_begin)
    writer.add_add_eos_token(words.adds_end)
    writer.add_add_space_prefix(False)
    if words.template is not None:
        writer.add_chat_template(words.template)


def _check_tensors(file: GgufFile, model: Any, shape: Shape, kind: Kind) -> None:
    for key, said in vars(file.shape).items():
        own = getattr(shape, key)
        if said != (float(np.float32(own)) if isinstance(own, float) else own):
            raise ExportError(f"{key} of {WHAT} is {said!r}, and the model's {own!r}.")
    found = dict(file.tensors())
    for name, array in tensors_of(model, shape):
        if name not in found:
            raise ExportError(f"{WHAT} lacks the tensor {name}.")
        refuse_wrong(name, found.pop(name), array, kind_of(name, array, kind))
    if found:
        raise ExportError(f"{WHAT} has a tensor {min(found)} that the model has not.")


def _check_tokens(file: GgufFile, tokenizer: TextTokenizer, rows: Tensor) -> None:
    own = library("tokenizers", "hf").Tokenizer.from_str(written(tokenizer))
    other = file.tokenizer()
    for text in (*_PROBES, *(tokenizer.decode(row.tolist()) for row in rows)):
        found, wanted = (each.encode(text, add_special_tokens=False).ids for each in (other, own))
        if found != wanted:
            raise ExportError(f"the tokenizer of the file cuts {text[:40]!r} otherwise.")


def _compared(model: Observed, file: GgufFile, rows: Tensor, tolerance: float) -> Parity:
    """Row by row, for the logits of many tokens are large."""
    whole = model if _is_float32(model) else copy.deepcopy(model).float()
    device = next(whole.parameters()).device
    other, found = file.model(), []
    with evaluating(whole), torch.no_grad():
        for row in rows:
            batch = Batch({"input_ids": row[None]})
            wanted = whole(batch.to(device)).logits.cpu().double()
            given = other(input_ids=row[None]).logits.double()
            found.append(parity_of(given, wanted, tolerance))
    return Parity(
        float(np.max([each.max_difference for each in found])),  # NaN stays NaN
        sum(each.equal_top1 for each in found) / len(found),
        len(found),
    )


def _is_float32(model: Observed) -> bool:
    return all(each.dtype == torch.float32 for each in model.parameters())
