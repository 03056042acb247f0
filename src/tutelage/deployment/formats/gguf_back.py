"""The way back: what a GGUF file says, as a model and a tokenizer, from the file alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.quiet import quietly
from tutelage.deployment.formats.gguf_makes import Shape, usual_frequencies
from tutelage.deployment.formats.gguf_tensors import ROPE, Array, halves, our_name, turned_pairs
from tutelage.deployment.formats.gguf_tokens import ADDED, CONTROL, CUTS, UNUSED
from tutelage.models.foreign import library

_CLASSES = {"llama": "Llama", "qwen2": "Qwen2"}


class GgufFile:
    """A GGUF file that `export_gguf` wrote, or another of the same makes.

    Args:
        path: The file.

    Raises:
        ModelError: It is no whole GGUF file, or of another make.
        NotInstalled: gguf is not here.
    """

    def __init__(self, path: str | Path):
        gguf, self.path = library("gguf", "hf"), Path(path)
        try:
            self._reader = gguf.GGUFReader(self.path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            said = " ".join(str(error).split())[:120]
            raise ModelError(f"{path} is no whole GGUF file ({said}).") from error
        self._dequantize = gguf.quants.dequantize
        self.architecture = str(self.said("general.architecture"))
        if self.architecture not in _CLASSES:
            raise ModelError(
                f"{path} is of the architecture {self.architecture!r:.40}, and "
                f"{' and '.join(_CLASSES)} are read here."
            )

    def said(self, key: str, otherwise: Any = None) -> Any:
        """What stands under a key; ``otherwise`` where nothing does."""
        field = self._reader.fields.get(key)
        return otherwise if field is None else field.contents()

    @property
    def types(self) -> dict[str, str]:
        """In what numbers each tensor is, by name."""
        return {str(each.name): str(each.tensor_type.name) for each in self._reader.tensors}

    @property
    def shape(self) -> Shape:
        """The sizes of its model."""
        prefix = self.architecture
        width, heads = self._size("embedding_length"), self._size("attention.head_count")
        return Shape(
            architecture=prefix,
            context=self._size("context_length"),
            width=width,
            inner=self._size("feed_forward_length"),
            blocks=self._size("block_count"),
            heads=heads,
            kv_heads=self._size("attention.head_count_kv", heads),
            head_size=self._size("attention.key_length", width // heads),
            vocabulary=len(self.said("tokenizer.ggml.tokens", ())),
            base=float(self.said(f"{prefix}.rope.freq_base", 10_000.0)),
            epsilon=float(self.said(f"{prefix}.attention.layer_norm_rms_epsilon", 1e-6)),
        )

    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Every tensor in float32, by llama.cpp's name and in its order."""
        for each in self._reader.tensors:
            yield str(each.name), self._dequantize(each.data, each.tensor_type)

    def model(self) -> nn.Module:
        """The model of the transformers library that the file describes, in float32.

        Raises:
            ModelError: Tensors are missing or of other shapes than the file's own keys say.
        """
        shape, tensors = self.shape, dict(self.tensors())
        transformers, name = library("transformers", "hf"), _CLASSES[shape.architecture]
        biases = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
        config = getattr(transformers, f"{name}Config")(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.blocks,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_size,
            max_position_embeddings=shape.context,
            rms_norm_eps=shape.epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": shape.base},
            tie_word_embeddings="output.weight" not in tensors,
            **{key: one in tensors for key, one in biases.items() if name == "Llama"},
        )
        with quietly(), torch.random.fork_rng(devices=[]):
            model: Any = getattr(transformers, f"{name}ForCausalLM")(config)
        factors = tensors.pop(ROPE, None)
        state = {our_name(key): _ours(key, array, shape) for key, array in tensors.items()}
        if config.tie_word_embeddings and "model.embed_tokens.weight" in state:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:200]
            raise ModelError(f"{self.path} does not hold what its keys say: {said}") from error
        if factors is not None:
            own = (usual_frequencies(shape) / torch.from_numpy(factors.copy()).double()).float()
            model.model.rotary_emb.inv_freq.copy_(own)
        return model.eval()  # type: ignore[no-any-return]

    def tokenizer(self) -> Any:
        """The tokenizer that the file describes, of the tokenizers library.

        Raises:
            ModelError: Its kind is another than byte-level BPE, or how it cuts is not known here.
        """
        kind, pre = (self.said(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
        if kind != "gpt2" or pre not in CUTS:
            raise ModelError(f"{self.path} has a tokenizer of kind {kind!r:.40}, {pre!r:.40}.")
        steps, whole = CUTS[pre]
        tokens, types = (self.said(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = [
            {"id": i, "content": token, "special": types[i] == CONTROL, **flags}
            for i, token in enumerate(tokens)
            if types[i] in (CONTROL, ADDED)
        ]
        spec = {
            "added_tokens": added,
            "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"trim_offsets": True, **step} for step in steps],
            },
            "model": {
                "type": "BPE",
                "vocab": {token: i for i, token in enumerate(tokens) if types[i] != UNUSED},
                "merges": self._merges(set(tokens)),
                "ignore_merges": whole,
            },
        }
        return library("tokenizers", "hf").Tokenizer.from_str(json.dumps(spec))

    def _merges(self, tokens: set[str]) -> list[str]:
        """Those of tokens that are there: the library wants no others."""
        merges = self.said("tokenizer.ggml.merges", ())
        return [pair for pair in merges if set(pair.split(" ")) <= tokens]

    def _size(self, key: str, otherwise: int | None = None) -> int:
        found = self.said(f"{self.architecture}.{key}", otherwise)
        if not isinstance(found, int):
            raise ModelError(f"{self.path} says no {self.architecture}.{key}, or not one for all.")
        return found


def _ours(name: str, array: Array, shape: Shape) -> Tensor:
    """A tensor in the order of transformers."""
    heads = turned_pairs(name, shape)
    return torch.from_numpy((array if heads is None else halves(array, heads)).copy())
