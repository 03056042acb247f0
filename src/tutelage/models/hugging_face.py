"""Models of the transformers library, from a folder, its hub or a GGUF file, without its code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.core.errors import ModelError, RecipeError, suggest
from tutelage.models.embedder import Embedder, pooling_of
from tutelage.models.foreign import library, one_line
from tutelage.models.shrunk.folder import open_folder
from tutelage.models.shrunk.odd_heads import KEY as ODD_HEADS

_LOADERS = {
    "image-classification": "AutoModelForImageClassification",
    "sequence-classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "embedding": "AutoModel",
}
_WRITTEN = ("causal-lm", "masked-lm", "seq2seq-lm")  # their classes are tokens
_ENDINGS = {
    "ForImageClassification": "image-classification",
    "ForSequenceClassification": "sequence-classification",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForConditionalGeneration": "seq2seq-lm",
}
_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
_OPTIONS: Mapping[str, Any] = {
    "classes": None,
    "task": None,
    "pretrained": True,
    "new_head": False,
    "revision": "main",
    "gguf": None,
    "dtype": "float32",
    "pooling": None,
    "normalise": None,
}


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, with everything that was not said."""

    name: str
    classes: int
    said: Mapping[str, Any]
    chosen: Mapping[str, Any]

    @property
    def gguf(self) -> dict[str, str]:
        """What the library is to be told of a GGUF file; nothing where there is none."""
        return {} if self.chosen["gguf"] is None else {"gguf_file": str(self.chosen["gguf"])}

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        found: torch.dtype = _DTYPES[self.chosen["dtype"]]
        return found


def hf_model(
    name: str, options: Mapping[str, Any], *, classes: int, shape: tuple[int, ...]
) -> nn.Module:
    """A model of the transformers library, from a folder or from its hub, never running its code.

    ==============  ==========================================================================
    option          meaning
    ==============  ==========================================================================
    ``task``        ``image-classification``, ``sequence-classification``, ``causal-lm``,
                    ``masked-lm``, ``seq2seq-lm`` or ``embedding``; by the configuration unless
                    said, which for models without a head it must be
    ``pretrained``  true: its weights, safetensors only; false: fresh ones by its configuration
    ``new_head``    true: a fresh last layer where its number of classes differs, or where there
                    is none (classifiers)
    ``classes``     the number of logits; the data's unless said
    ``revision``    of the hub
    ``gguf``        a GGUF file in the folder, whose weights are made whole numbers of ``dtype``
    ``dtype``       ``float32``, ``bfloat16`` or ``float16``
    ``pooling``     of an embedding: ``mean``, ``cls`` or ``last``; as its folder says, or mean
    ``normalise``   of an embedding: whether its length is 1; as its folder says, or true
    ==============  ==========================================================================

    The classes of a language model are the rows of its head; there may be more of them than tokens
    in the data, and not fewer. Those of an embedding are its numbers. A folder whose BERT has lost
    heads (`tutelage.models.shrunk.narrower`) opens too, as the kind that it was cut as.

    Args:
        name: A folder with ``config.json`` (or the GGUF file), or a name on the hub.
        options: As above.
        classes: Number of logits; of the data's tokens for language models.
        shape: Of one example; not needed here.

    Raises:
        NotInstalled: transformers, or for GGUF files gguf, is not here.
        RecipeError: An option is not known.
        ModelError: There is no such model, it has another number of classes, or its weights lack
            a head.
    """
    wanted = _wanted(name, options, classes)
    transformers = library("transformers", "hf")
    if wanted.gguf:
        library("gguf", "hf")
    with one_line(f"hf:{name}", options):
        config = transformers.AutoConfig.from_pretrained(
            name, revision=wanted.chosen["revision"], trust_remote_code=False, **wanted.gguf
        )
        task = wanted.chosen["task"] or ("causal-lm" if wanted.gguf else _task_of(name, config))
        _fit_classes(config, task, wanted)
        loader = getattr(transformers, _LOADERS[task])
        if hasattr(config, ODD_HEADS):
            model = _of_odd_heads(config, task, wanted)
        elif not wanted.chosen["pretrained"]:
            model = loader.from_config(config, trust_remote_code=False).to(wanted.dtype)
        elif wanted.gguf:
            model = _from_gguf(loader, task, wanted)
        else:
            model = _from_weights(loader, config, task, wanted)
    return _embedder(model, wanted) if task == "embedding" else model


def _wanted(name: str, options: Mapping[str, Any], classes: int) -> _Wanted:
    for key in options:
        if key not in _OPTIONS:
            raise RecipeError(f"model 'hf:{name}' has no option {key!r}. {suggest(key, _OPTIONS)}")
    chosen = dict(_OPTIONS) | dict(options)
    for key, known in (("task", _LOADERS), ("dtype", _DTYPES)):
        if chosen[key] is not None and chosen[key] not in known:
            near = suggest(str(chosen[key]), known)
            raise RecipeError(f"model 'hf:{name}' has no {key} {chosen[key]!r}. {near}")
    folder, file = Path(name), chosen["gguf"]
    local = folder.is_dir() or name[:1] in "./~"
    if file is None and local and not (folder / "config.json").is_file():
        raise ModelError(f"hf:{name}: there is no folder of that name with a config.json in it.")
    if file is not None and local and not (folder / str(file)).is_file():
        there = [one.name for one in folder.glob("*.gguf")]
        raise ModelError(f"hf:{name}: there is no file {file!r} in it. {suggest(str(file), there)}")
    count = classes if chosen["classes"] is None else int(chosen["classes"])
    return _Wanted(name, count, dict(options), chosen)


def _task_of(name: str, config: Any) -> str:
    written = list(getattr(config, "architectures", None) or ())
    for ending, task in _ENDINGS.items():
        if any(one.endswith(ending) for one in written):
            return task
    raise ModelError(
        f"hf:{name} does not say what it is for ({', '.join(written) or 'no architectures'}): set "
        f"task: one of {', '.join(_LOADERS)}."
    )


def _fit_classes(config: Any, task: str, wanted: _Wanted) -> None:
    """See to it that the configuration has the classes that were asked for, or refuse."""
    name, classes = wanted.name, wanted.classes
    fresh = not wanted.chosen["pretrained"]
    if task in _WRITTEN:
        has = int(config.get_text_config().vocab_size)
        if fresh:
            _resize(config, classes)
        elif classes > has:
            raise ModelError(
                f"hf:{name} knows {has} tokens, and the data's tokenizer has {classes}: take the "
                "model's own tokenizer, or another model."
            )
    elif task == "embedding":
        if config.is_encoder_decoder:
            raise ModelError(f"hf:{name} is an encoder-decoder, and an embedding is of an encoder.")
        has = int(config.get_text_config().hidden_size)
        if "classes" in wanted.said and classes != has:
            raise ModelError(
                f"hf:{name} makes embeddings of {has} numbers, where classes: {classes} were asked "
                "for: leave classes out."
            )
    elif config.num_labels != classes:
        if not (wanted.chosen["new_head"] or fresh):
            has = config.num_labels
            raise ModelError(
                f"hf:{name} has {has} classes where {classes} were asked for: set new_head: true "
                f"for a fresh last layer, or classes: {has} and map them to the data's."
            )
        config.num_labels = classes


def _resize(config: Any, classes: int) -> None:
    """A vocabulary of another size; special tokens beyond it are none."""
    inner = config.get_text_config()
    inner.vocab_size = classes
    for token in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
        number = getattr(inner, token, None)
        if isinstance(number, int) and number >= classes:
            setattr(inner, token, None)


def _from_weights(loader: Any, config: Any, task: str, wanted: _Wanted) -> nn.Module:
    new_head = bool(wanted.chosen["new_head"])
    model: nn.Module
    model, told = loader.from_pretrained(
        wanted.name,
        config=config,
        revision=wanted.chosen["revision"],
        ignore_mismatched_sizes=new_head,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=wanted.dtype,
        output_loading_info=True,
    )
    _refuse_missing(told, task, wanted)
    return model


def _of_odd_heads(config: Any, task: str, wanted: _Wanted) -> nn.Module:
    """A model that this library cut heads of, which transformers alone cannot open."""
    (written,) = config.architectures
    endings = [one for ending, one in _ENDINGS.items() if written.endswith(ending)]
    if task not in (endings or ["embedding"]):
        raise ModelError(
            f"hf:{wanted.name} was cut as {written}, and opens as that alone: leave task out, or "
            f"say task: {(endings or ['embedding'])[0]}."
        )
    model = open_folder(wanted.name, config, fresh=not wanted.chosen["pretrained"])
    return model.to(wanted.dtype)


def _refuse_missing(told: Mapping[str, Any], task: str, wanted: _Wanted) -> None:
    """The library would make what is missing at random, and say so in a log."""
    missing = sorted(key for key in told["missing_keys"] if "pooler" not in key)
    if not missing or (wanted.chosen["new_head"] and task not in _WRITTEN):
        return
    more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
    hint = "load it as it was trained (task)"
    if task.endswith("classification"):
        hint = "set new_head: true for a fresh last layer"
    raise ModelError(
        f"hf:{wanted.name} as {task}: its weights lack {', '.join(missing[:2])}{more}: {hint}."
    )


def _from_gguf(loader: Any, task: str, wanted: _Wanted) -> nn.Module:
    """A model of its own with the weights of the file, which the library would not save again."""
    loaded, told = loader.from_pretrained(
        wanted.name,
        dtype=wanted.dtype,
        trust_remote_code=False,
        output_loading_info=True,
        **wanted.gguf,
    )
    _refuse_missing(told, task, wanted)
    said = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        said.pop(key, None)
    model: nn.Module = loader.from_config(type(loaded.config).from_dict(said))
    model.to(wanted.dtype).load_state_dict(loaded.state_dict())
    if getattr(loaded, "generation_config", None) is not None:
        model.generation_config = loaded.generation_config
    return model.eval()


def _embedder(body: nn.Module, wanted: _Wanted) -> nn.Module:
    found: dict[str, Any] = {"pooling": "mean", "normalise": True}
    found |= pooling_of(Path(wanted.name))
    for key in ("pooling", "normalise"):
        if wanted.chosen[key] is not None:
            found[key] = wanted.chosen[key]
    return Embedder(body, pooling=found["pooling"], normalise=bool(found["normalise"]))
