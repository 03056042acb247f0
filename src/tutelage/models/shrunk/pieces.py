"""Tokenizers with fewer tokens, for students that know only these."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tutelage.core.errors import DataError, ModelError


def fewer_pieces(tokenizer: str, keep: Iterable[int]) -> tuple[str, list[int]]:
    """A tokenizer of the tokenizers library with some of its tokens, numbered anew.

    Kept in any case are added (special) tokens, single characters or bytes, and of byte pairs all
    tokens that a kept one is merged from. Then every text that was cut into kept tokens is cut into
    the same ones as before: a merge, a longest match or a best path that was taken is still there,
    and none is new. Other texts are cut into smaller tokens.

    Args:
        tokenizer: What ``tokenizer.json`` holds: of kind BPE, WordPiece or Unigram.
        keep: Numbers of tokens.

    Returns:
        What the new file is to hold, and the old numbers of its tokens in their new order: give
        them to `fewer_tokens`.

    Raises:
        DataError: It is no such file.
        ModelError: A number is no token's.

    Example:
        >>> words = {"type": "WordPiece", "unk_token": "?", "vocab": {"?": 0, "ab": 1, "abc": 2}}
        >>> text, kept = fewer_pieces(json.dumps({"model": words}), [2])
        >>> json.loads(text)["model"]["vocab"], kept
        ({'?': 0, 'abc': 1}, [0, 2])
    """
    try:
        whole = json.loads(tokenizer)
        model: dict[str, Any] = whole["model"]
        kind, added = model["type"], whole.get("added_tokens") or []
        names = _names(model, added)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "this is no tokenizer.json of kind BPE, WordPiece or Unigram: give the text of the "
            "file that the tokenizers library wrote."
        ) from error
    chosen = set(keep)
    strange = [number for number in chosen if number not in names]
    if strange:
        raise ModelError(f"keep: {strange[0]!r} is the number of no token of this tokenizer.")
    chosen |= {token["id"] for token in added} | _needed(model, names)
    if kind == "BPE":
        chosen |= _merged_from(model, names, chosen)
    kept = sorted(chosen)
    new = {old: number for number, old in enumerate(kept)}
    _renumber(model, added, new)
    if whole.get("post_processor"):
        whole["post_processor"] = _renumbered(whole["post_processor"], new)
    return json.dumps(whole, ensure_ascii=False), kept


def _names(model: Mapping[str, Any], added: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    if model["type"] not in ("BPE", "WordPiece", "Unigram"):
        raise ValueError(model["type"])
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        names = {number: piece for number, (piece, _) in enumerate(vocabulary)}
    else:
        names = {number: piece for piece, number in vocabulary.items()}
    return names | {token["id"]: token["content"] for token in added}


def _needed(model: Mapping[str, Any], names: Mapping[int, str]) -> set[int]:
    """Single characters and bytes, and what stands for the unknown."""
    prefix = model.get("continuing_subword_prefix") or ""
    unknown = model.get("unk_token")
    if model["type"] == "Unigram" and model.get("unk_id") is not None:
        unknown = names[model["unk_id"]]
    return {
        number
        for number, name in names.items()
        if len(name.removeprefix(prefix)) == 1
        or name == unknown
        or (len(name) == 6 and name.startswith("<0x") and name.endswith(">"))
    }


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    merges = [each.split(" ", 1) if isinstance(each, str) else each for each in model["merges"]]
    return [(left, right) for left, right in merges]


def _product(model: Mapping[str, Any], left: str, right: str) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _merged_from(
    model: Mapping[str, Any], names: Mapping[int, str], chosen: Iterable[int]
) -> set[int]:
    numbers = model["vocab"]
    parents: dict[str, list[str]] = {}
    for left, right in _pairs(model):
        parents.setdefault(_product(model, left, right), []).extend((left, right))
    found, waiting = set(), [names[number] for number in chosen]
    while waiting:
        for parent in parents.get(waiting.pop(), ()):
            if numbers[parent] not in found:
                found.add(numbers[parent])
                waiting.append(parent)
    return found


def _renumber(model: dict[str, Any], added: Iterable[dict[str, Any]], new: dict[int, int]) -> None:
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
        model["vocab"] = [piece for number, piece in enumerate(vocabulary) if number in new]
    else:
        kept = {piece: new[number] for piece, number in vocabulary.items() if number in new}
        model["vocab"] = dict(sorted(kept.items(), key=lambda item: item[1]))
    if model["type"] == "BPE":
        kept = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in _pairs(model)
            if left in kept and right in kept and _product(model, left, right) in kept
        ]
    for token in added:
        token["id"] = new[token["id"]]


def _renumbered(part: Any, new: Mapping[int, int]) -> Any:
    """What is put around a text: numbers stand under ``ids``, and beside names as pairs."""
    if isinstance(part, Mapping):
        return {
            key: [new[each] for each in value]
            if key == "ids"
            else [value[0], new[value[1]]]
            if key in ("sep", "cls")
            else _renumbered(value, new)
            for key, value in part.items()
        }
    return [_renumbered(each, new) for each in part] if isinstance(part, list) else part
