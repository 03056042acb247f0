"""Tokenizers as llama.cpp keeps them: byte-level BPE with a pre-tokenizer that it knows by name.

Source: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import ExportError
from tutelage.core.quiet import quietly
from tutelage.core.text import TextTokenizer
from tutelage.data.text import ByteTokenizer, LibraryTokenizer

NORMAL, CONTROL, ADDED, UNUSED = 1, 3, 4, 5
"""Types of tokens in ``tokenizer.ggml.token_type``."""

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BARE = {**_BYTES, "use_regex": False}
_DIGITS = {"type": "Digits", "individual_digits": True}


def _split(pattern: str) -> dict[str, Any]:
    how = {"behavior": "Isolated", "invert": False}
    return {"type": "Split", "pattern": {"Regex": pattern}, **how}


_Steps = list[dict[str, Any]]
CUTS: Mapping[str, tuple[_Steps, bool]] = {
    "gpt-2": ([_BYTES], False),
    "smollm": ([_DIGITS, _BYTES], False),
    "llama-bpe": ([_split(_LLAMA3), _BARE], True),
    "qwen2": ([_split(_LLAMA3.replace("{1,3}", "")), _BARE], False),
}
"""What llama.cpp calls ways of cutting text before it merges: the steps of the tokenizers library,
and whether a piece that is a token whole is taken whole (``ignore_merges``)."""


@dataclass(frozen=True)
class Vocabulary:
    """What ``tokenizer.ggml.*`` says.

    Attributes:
        tokens: The text of each, byte-level but for added ones.
        types: Of each: `NORMAL`, `CONTROL`, `ADDED` or `UNUSED`.
        merges: Pairs with a space between, the first one first.
        pre: Of `CUTS`.
        begin: Number of the token that begins a text.
        end: Number of the token that ends one.
        padding: Number of the token that fills up; None where there is none of its own.
        adds_begin: Whether the tokenizer puts ``begin`` before every text.
        adds_end: Whether it puts ``end`` behind.
        template: Of conversations, in Jinja.
    """

    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    pre: str
    begin: int
    end: int
    padding: int | None
    adds_begin: bool
    adds_end: bool
    template: str | None


def vocabulary_of(tokenizer: TextTokenizer, rows: int, config: Any) -> Vocabulary:
    """A tokenizer in llama.cpp's words.

    Args:
        tokenizer: Byte-level BPE, or bytes.
        rows: Of the embedding; what is beyond the tokenizer's tokens is filled up.
        config: Of the model; asked for the tokens that begin and end a text where the tokenizer
            has none.

    Raises:
        ExportError: llama.cpp cannot cut text as this tokenizer does.
    """
    spec = json.loads(written(tokenizer))
    tokens, types = _tokens(spec, rows)
    first, last = (_number(config, key, rows) for key in ("bos_token_id", "eos_token_id"))
    begin = _known(tokenizer.begin, first, tokenizer.end, last)
    end = _known(tokenizer.end, last, tokenizer.begin, first)
    if begin is None or end is None:
        raise ExportError(
            "the tokenizer has no token that ends a text, and llama.cpp would take number 11 for "
            "it: train with a tokenizer that has one (bpe has)."
        )
    before, after = _around(spec)
    padding = tokenizer.padding
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=_merges(spec),
        pre=_cut_of(spec),
        begin=begin,
        end=end,
        padding=padding if padding in tokenizer.special else None,
        adds_begin=begin in before,
        adds_end=end in after,
        template=template_of(tokenizer),
    )


def written(tokenizer: TextTokenizer) -> str:
    """The content of its ``tokenizer.json``.

    Raises:
        ExportError: It can have none.
    """
    if isinstance(tokenizer, ByteTokenizer):
        return json.dumps(_of_bytes(tokenizer))
    if not isinstance(tokenizer, LibraryTokenizer):
        raise ExportError(
            f"llama.cpp cannot cut text as the tokenizer {tokenizer.name!r:.80} does: train with "
            "bpe, bytes, or the byte-level BPE of a model (hf)."
        )
    with tempfile.TemporaryDirectory() as spare:
        return tokenizer.save(Path(spare) / "tokenizer.json").read_text(encoding="utf-8")


def template_of(tokenizer: TextTokenizer) -> str | None:
    """The Jinja template of a model's conversations, from where its tokenizer came, or None."""
    if not isinstance(tokenizer, LibraryTokenizer) or tokenizer.render is None:
        return None
    path = str(tokenizer.stated().get("hf", {}).get("path", ""))
    if not path:
        return None
    with quietly():
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=Path(path).is_dir()
        ).chat_template
    template = found.get("default") if isinstance(found, dict) else found
    return None if template is None else str(template)


def _tokens(spec: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """The text and the type of each token."""
    added = spec.get("added_tokens") or []
    named = {number: token for token, number in spec["model"]["vocab"].items()}
    kinds = dict.fromkeys(named, NORMAL)
    for token in added:
        if token["single_word"] or token["lstrip"] or token["rstrip"]:
            raise ExportError(
                f"the token {token['content']!r:.80} takes blanks beside it or stands between "
                "words alone, which llama.cpp does not know: leave that out of tokenizer.json."
            )
        named[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else ADDED
    if max(named) >= rows:
        raise ExportError(
            f"the tokenizer has {max(named) + 1} tokens, and the model {rows} rows for them: give "
            "the tokenizer that the model was trained with."
        )
    numbers = range(rows)
    return [named.get(i, f"[PAD{i}]") for i in numbers], [kinds.get(i, UNUSED) for i in numbers]


def _merges(spec: Mapping[str, Any]) -> list[str]:
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in spec["model"]["merges"]]
    # llama.cpp wants the list to be there; characters that are no bytes are never met
    return merges or ["\u2603 \u2603"]


def _cut_of(spec: Mapping[str, Any]) -> str:
    """Which of `CUTS` this is, if all else of the tokenizer is as llama.cpp does it."""
    model, normal = spec["model"], (spec.get("normalizer") or {}).get("type")
    steps = _steps(spec.get("pre_tokenizer"))
    plain = not any(
        model.get(key) for key in ("dropout", "byte_fallback", "continuing_subword_prefix")
    ) and not model.get("end_of_word_suffix")
    for name, (wanted, whole) in CUTS.items():
        forms = (None, "NFC") if name == "qwen2" else (None,)
        same = steps == wanted and normal in forms and model["type"] == "BPE"
        if same and plain and bool(model.get("ignore_merges")) is whole:
            return name
    said = [step["type"] for step in steps]
    raise ExportError(
        f"llama.cpp cannot cut text as this tokenizer does ({model['type']}, normaliser {normal}, "
        f"pre-tokenizer {' and '.join(said) or None}): byte-level BPE is written that cuts as one "
        f"of {', '.join(CUTS)}; train with such a tokenizer (bpe is one)."
    )


def _steps(pre: Mapping[str, Any] | None) -> _Steps:
    """The steps of a pre-tokenizer one after the other, without what changes no token."""
    if pre is None:
        return []
    if pre["type"] == "Sequence":
        return [step for each in pre["pretokenizers"] for step in _steps(each)]
    return [{key: value for key, value in pre.items() if key != "trim_offsets"}]


def _around(spec: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The tokens that the post-processor puts before and after every text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(spec))
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _number(config: Any, key: str, rows: int) -> int | None:
    said = getattr(config, key, None)
    said = said[0] if isinstance(said, list) and said else said
    return said if isinstance(said, int) and 0 <= said < rows else None


def _known(*numbers: int | None) -> int | None:
    return next((number for number in numbers if number is not None), None)


def _of_bytes(tokenizer: ByteTokenizer) -> dict[str, Any]:
    """Bytes as byte-level BPE that merges nothing."""
    shown = {byte: character for character, byte in byte_of().items()}
    vocab = {shown[byte]: byte for byte in range(256)}
    end = {"id": tokenizer.end, "content": "<|end|>", "special": True, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    cut = {**_BYTES, "trim_offsets": True}
    return {"added_tokens": [end | flags], "pre_tokenizer": cut, "model": model}


def byte_of() -> dict[str, int]:
    r"""Which byte each character of byte-level tokens stands for.

    >>> byte_of()["a"], byte_of()["\u0120"]
    (97, 32)
    """
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + i): b for i, b in enumerate(hidden)}
