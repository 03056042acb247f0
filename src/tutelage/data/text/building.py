"""From documents of tokens to the splits of a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tutelage.core.errors import DataError, suggest
from tutelage.core.text import TextTokenizer
from tutelage.data.splits import Sealed, Splits
from tutelage.data.text.packing import Marks, pack
from tutelage.data.text.reading import Paths
from tutelage.data.text.token_set import TokenSet
from tutelage.data.text.tokenizing import Stated, Tokens, told

SPLITS = ("train", "validation", "test")


@dataclass
class Documents:
    """The documents of one split.

    Attributes:
        tokens: Of each.
        counted: Which of them are to be predicted; empty where all are.
    """

    tokens: list[Tokens] = field(default_factory=list)
    counted: list[Marks] = field(default_factory=list)


def splits_of(
    found: Mapping[str, Documents],
    tokenizer: TextTokenizer,
    *,
    length: int,
    together: bool,
    name: str,
    origin: Mapping[str, Any],
    treatment: str,
) -> Splits:
    """Splits of rows of tokens; ids run on from train over validation to test.

    Documents of one token, which nothing can be predicted of, are left out.

    Args:
        found: The documents of the three splits.
        tokenizer: What made them.
        length: Tokens that are read at once.
        together: Whether documents share rows.
        name: Of the source.
        origin: What a report says of it.
        treatment: A sentence: what a caller must do with new text.
    """
    kept = {split: _of_two(found[split].tokens, f"{name} {split}") for split in SPLITS}
    packed = {
        split: pack(
            kept[split],
            length,
            counted=[m for m in found[split].counted if len(m) > 1] or None,
            together=together,
            padding=tokenizer.padding,
        )
        for split in SPLITS
    }
    if not any(rows.shared for rows in packed.values()):
        packed = {split: replace(rows, begins=None) for split, rows in packed.items()}
    padded = any(bool((rows.lengths <= length).any()) for rows in packed.values())
    sets, start = {}, 0
    for split, rows in packed.items():
        ids = torch.arange(start, start + len(rows.tokens))
        start += len(ids)
        sets[split] = TokenSet.of(
            rows, padded=padded, ids=ids, name=f"{name} {split}", tokenizer=tokenizer
        )
    facts = {
        **origin,
        "tokenizer": told(tokenizer),
        "length": length,
        "pack": together,
        "documents": {split: len(kept[split]) for split in SPLITS},
        "predicted_tokens": {split: sets[split].units for split in SPLITS},
    }
    return Splits(
        sets["train"],
        sets["validation"],
        Sealed(sets["test"]),
        name,
        (),
        facts,
        stored=stored(tokenizer, length, treatment),
    )


def stored(tokenizer: TextTokenizer, length: int, treatment: str) -> dict[str, Any]:
    """What `Splits.stored` says of text: the treatment in words, and the tokenizer whole."""
    facts: dict[str, Any] = {"treatment": treatment, "length": length}
    return facts | (
        {"tokenizer": dict(tokenizer.stated())} if isinstance(tokenizer, Stated) else {}
    )


def source_of(name: str, split: str) -> str:
    """What messages call the files of a split.

    >>> source_of("chat", "train"), source_of("chat", "test")
    ('chat path', 'chat test_path')
    """
    return f"{name} path" if split == "train" else f"{name} {split}_path"


def check_word(name: str, option: str, written: str, known: Sequence[str]) -> None:
    """Refuse a word that an option does not know.

    Raises:
        DataError: It is none of those.
    """
    if written not in known:
        raise DataError(f"{name} {option} is {written!r}. {suggest(str(written), known)}")


def given_files(
    path: Paths, validation_path: Paths | None, test_path: Paths | None
) -> dict[str, Paths]:
    """The files of the splits that have some; train has."""
    found: dict[str, Paths] = {"train": path}
    if validation_path is not None:
        found["validation"] = validation_path
    if test_path is not None:
        found["test"] = test_path
    return found


def asked_for(
    given: Mapping[str, Paths], shares: Mapping[str, float | None], name: str
) -> dict[str, float | None]:
    """The shares of the splits that have no files of their own, test first.

    Raises:
        DataError: A share is given for a split that has files.
    """
    for split, share in shares.items():
        if split in given and share is not None:
            raise DataError(
                f"{name} {split} is {share}, and {split}_path is given too: leave one of them out."
            )
    return {split: shares[split] for split in ("test", "validation") if split not in given}


def _of_two(documents: Sequence[Tokens], name: str) -> list[Tokens]:
    """The documents in which one token can predict another."""
    kept = [tokens for tokens in documents if len(tokens) > 1]
    if not kept:
        raise DataError(
            f"{name} has no document of two tokens or more, so that there is nothing to predict: "
            "bring more text."
        )
    return kept
