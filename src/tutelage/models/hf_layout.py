"""A model as a folder that the transformers library, and whatever reads its layout, can load."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.core.errors import ModelError
from tutelage.core.quiet import quietly
from tutelage.models.embedder import Embedder
from tutelage.models.foreign import library
from tutelage.models.observed import Frozen, Observed
from tutelage.models.points import is_transformers
from tutelage.models.zoo.gpt import GPT

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
)
"""What of a folder belongs to its tokenizer."""


def save_hf(
    model: nn.Module,
    folder: str | Path,
    *,
    tokenizer_files: str | Path | Iterable[str | Path] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write ``config.json``, the weights as safetensors, and the tokenizer's files.

    The folder is there whole or not at all; ``AutoModel...from_pretrained`` loads it, and so does
    the name ``hf:FOLDER``. The zoo's ``gpt`` is written as the Llama that it is. A sentence
    encoder gets the files by which the sentence-transformers library knows its pooling.

    Args:
        model: Of the transformers library, or a ``gpt``; wrapped or not.
        folder: Where to; an older one is replaced if it has a ``config.json``.
        tokenizer_files: A folder whose tokenizer's files are copied, or the files themselves.
        dtype: Of the weights; as they are if None.

    Returns:
        The folder.

    Raises:
        NotInstalled: transformers is not here.
        ModelError: The model is of another kind, its weights are broken, or the folder cannot be
            written.
    """
    bare = _bare(model)
    target, body = Path(folder), bare.body if isinstance(bare, Embedder) else bare
    files = _files_of(tokenizer_files)
    if target.exists() and not (target.is_dir() and _ours(target)):
        raise ModelError(
            f"{target} is there and holds no model: name a new folder, or remove it first."
        )
    broken = [name for name, value in body.named_parameters() if not bool(value.isfinite().all())]
    if broken:
        raise ModelError(f"the weights {broken[0]!r} hold NaN or infinite numbers: not written.")
    saved: Any = as_llama(body) if isinstance(body, GPT) else body
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror or error}.") from error
    try:
        with quietly():
            _write(saved, part, dtype)
        if isinstance(bare, Embedder):
            _write_pooling(bare, part)
        for file in files:
            shutil.copyfile(file, part / file.name)
        _publish(part, target)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{target} cannot be written: {said}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def as_llama(model: GPT) -> nn.Module:
    """The zoo's ``gpt`` as the same model of the transformers library, with copies of its weights.

    Raises:
        NotInstalled: transformers is not here.
        ModelError: Its inner networks have no gate, which that library does not know.
    """
    transformers, sizes = library("transformers", "hf"), model.sizes
    state = {_llama_name(name): value for name, value in model.state_dict().items()}
    if not sizes.gated:
        raise ModelError(
            "a gpt with activation: gelu has no equal among the models of transformers: make it "
            "with swiglu to save it there."
        )
    config = transformers.LlamaConfig(
        vocab_size=model.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_size,
        max_position_embeddings=sizes.length,
        rms_norm_eps=sizes.eps,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.base},
        tie_word_embeddings=sizes.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        made: nn.Module = transformers.LlamaForCausalLM(config)
    made.to(next(iter(state.values())).dtype).load_state_dict(state)
    return made.train(model.training)


_LLAMA = {
    "embed": "embed_tokens",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "attention": "self_attn",
    "queries": "q_proj",
    "keys": "k_proj",
    "values": "v_proj",
    "out": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}


def _llama_name(name: str) -> str:
    """``layer1.attention.keys.weight`` as ``model.layers.0.self_attn.k_proj.weight``."""
    first, *rest = (_LLAMA.get(part, part) for part in name.split("."))
    if first == "linear":
        return ".".join(["lm_head", *rest])
    if first.startswith("layer"):
        first = f"layers.{int(first.removeprefix('layer')) - 1}"
    return ".".join(["model", first, *rest])


def _bare(model: nn.Module) -> nn.Module:
    if isinstance(model, Frozen):
        model = model.observed
    if isinstance(model, Observed):
        model = model.model
    inner = model.body if isinstance(model, Embedder) else model
    if not (is_transformers(inner) or isinstance(inner, GPT)):
        raise ModelError(
            f"a {type(inner).__name__} has no layout of Hugging Face: that have models of the "
            "transformers library (merge adapters first) and the zoo's gpt; save_weights writes "
            "any model's weights."
        )
    return model


def _files_of(given: str | Path | Iterable[str | Path] | None) -> list[Path]:
    if given is None:
        return []
    if isinstance(given, str | Path):
        folder = Path(given)
        found = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        if not found:
            raise ModelError(f"{folder} holds no files of a tokenizer (tokenizer.json, ...).")
        return found
    files = [Path(one) for one in given]
    for file in files:
        if not file.is_file():
            raise ModelError(f"there is no file {str(file)!r} of a tokenizer.")
    return files


def _ours(target: Path) -> bool:
    return (target / "config.json").is_file() or not any(target.iterdir())


def _write(model: Any, part: Path, dtype: torch.dtype | None) -> None:
    state = model.state_dict()
    if dtype is not None:
        state = _cast(state, dtype)
    model.save_pretrained(part, state_dict=state)
    wanted = dtype or next(iter(model.parameters())).dtype
    _edit(part / "config.json", {"dtype": str(wanted).removeprefix("torch.")})
    for file in part.iterdir():  # some come readable by their owner alone
        file.chmod(0o644)


def _cast(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The same in another type; what was one tensor under two names still is."""
    made: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for value in state.values():
        changed = value.detach().to(dtype) if value.is_floating_point() else value
        made.setdefault((value.data_ptr(), value.shape), changed)
    return {name: made[value.data_ptr(), value.shape] for name, value in state.items()}


def _edit(path: Path, known: dict[str, Any]) -> None:
    said = json.loads(path.read_text(encoding="utf-8")) | known
    for key in ("_name_or_path", "_model_name_or_path", "quantization_config"):
        said.pop(key, None)
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _write_pooling(model: Embedder, part: Path) -> None:
    """What the sentence-transformers library looks for."""
    library_name = "sentence_transformers.models"
    kinds = ["Transformer", "Pooling", *(["Normalize"] if model.normalise else [])]
    folders = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": idx, "name": str(idx), "path": folders[idx], "type": f"{library_name}.{kind}"}
        for idx, kind in enumerate(kinds)
    ]
    (part / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    keys = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
    said: dict[str, Any] = {"word_embedding_dimension": int(model.body.config.hidden_size)}  # type: ignore[union-attr, arg-type]
    said |= {f"pooling_mode_{key}": model.pooling == mode for mode, key in keys.items()}
    (part / "1_Pooling").mkdir()
    pooling = part / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _publish(part: Path, target: Path) -> None:
    """Put the finished folder in its place; an older one goes when the new one is there."""
    part.chmod(0o755)
    old = part.with_name(f"{part.name}.old")
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)
