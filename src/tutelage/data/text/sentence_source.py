"""Labelled sentences: what encoders tell apart."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError, suggest
from tutelage.core.registry import register
from tutelage.data.columns import is_number
from tutelage.data.sets import Examples, TensorSet
from tutelage.data.splits import Sealed, Splits, split_up
from tutelage.data.text.building import (
    SPLITS,
    asked_for,
    check_word,
    given_files,
    source_of,
    stored,
)
from tutelage.data.text.labelled import Sentence, labelled_sentences
from tutelage.data.text.sentence_set import SentenceSet
from tutelage.data.text.stored import filled
from tutelage.data.text.tokenizing import LONG, document, shortened, tokenizer_of, told

_MOST_CLASSES = 1000
_TREATMENT = "Sentences are cut into tokens by the tokenizer named here, with its own two ends."


@register("data", "sentences")
def sentences(
    path: str | list[str],
    tokenizer: str | dict[str, Any],
    length: int = 128,
    text: str = "text",
    label: str = "label",
    long: str = "refuse",
    rename: dict[str, str] | None = None,
    validation_path: str | list[str] | None = None,
    test_path: str | list[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Splits:
    """Sentences with labels, for encoders: lines ``label text``, CSV, TSV or JSON Lines.

    Each becomes the tokens that the tokenizer begins and ends a text with, and its own between
    them. A sentence without a label (an empty cell, ``null``) is unlabelled, and is for training
    alone. Where validation or test are taken out of train, they are stratified, and further copies
    of their sentences are left out of all splits.

    Args:
        path: Files, or folders: ``.csv`` (commas) and ``.tsv`` (tabs, no quotes) have a header
            line, ``.jsonl`` an object a line, any other a label, a space or tab, and the text.
        tokenizer: ``{hf: {path: folder}}``, ``bytes`` or another.
        length: Tokens of a sentence at most.
        text: The column, or key, of the words.
        label: That of the class.
        long: Sentences of more tokens: ``refuse`` them, or ``cut`` their end off.
        rename: Labels to be read as others, such as ``{"0": "negative"}``.
        validation_path: Files of the validation split.
        test_path: Files of the test split.
        validation: A fraction of train, or a count; None for 0.1. Not with ``validation_path``.
        test: Likewise, taken out first.
        encoding: Of all files.
        seed: Which ones are taken out.

    Returns:
        Splits of rows of tokens, with class numbers in the order of the sorted labels; ``origin``
        says how many sentences validation and test share with train.

    Raises:
        DataError: A file, line or label is not as it must be, or a sentence is too long.
    """
    check_word("sentences", "long", long, LONG)
    paths = given_files(path, validation_path, test_path)
    asked_for(paths, {"validation": validation, "test": test}, "sentences")
    read = {
        name: list(
            labelled_sentences(
                files, source_of("sentences", name), text, label, rename or {}, encoding
            )
        )
        for name, files in paths.items()
    }
    classes = _classes(read["train"])
    placed, left_out = _placed(read, classes, validation, test, seed)
    cutter = tokenizer_of(tokenizer, [each.text for each in placed["train"]])
    rows = {
        name: [
            shortened(document(cutter, each.text), length, cutter, long, each.place)
            for each in placed[name]
        ]
        for name in SPLITS
    }
    width = max(len(row) for each in rows.values() for row in each)
    sets, start = {}, 0
    for name in SPLITS:
        ids = torch.arange(start, start + len(rows[name]))
        start += len(ids)
        sets[name] = SentenceSet(
            *filled(rows[name], cutter.padding, width),
            _numbers(placed[name], classes),
            classes=classes,
            ids=ids,
            name=f"sentences {name}",
            tokenizer=cutter,
        )
    known = {each.text for each in placed["train"]}
    origin = {
        "source": "sentences",
        "path": path,
        "validation_path": validation_path,
        "test_path": test_path,
        "tokenizer": told(cutter),
        "length": length,
        "shared_sentences": {
            name: sum(each.text in known for each in placed[name]) for name in SPLITS[1:]
        },
        "left_out_copies": left_out,
        "seed": seed,
    }
    return Splits(
        sets["train"],
        sets["validation"],
        Sealed(sets["test"]),
        "sentences",
        tuple(classes),
        origin,
        stored=stored(cutter, width, _TREATMENT),
    )


def _placed(
    read: dict[str, list[Sentence]],
    classes: Sequence[str],
    validation: float | None,
    test: float | None,
    seed: int,
) -> tuple[dict[str, list[Sentence]], int]:
    """The sentences of each split, and how many copies were left out."""
    train = read["train"]
    first = {each.text: place for place, each in reversed(list(enumerate(train))) if each.label}
    first |= {each.text: place for place, each in enumerate(train) if each.text not in first}
    places = sorted(first.values())
    sets: dict[str, Examples] = {}
    start = len(train)
    for name, group in read.items():
        chosen = [group[place] for place in places] if name == "train" else group
        ids = torch.tensor(places) if name == "train" else torch.arange(start, start + len(group))
        start += 0 if name == "train" else len(group)
        blank = torch.zeros(len(chosen), 1)
        called = f"sentences {name}"
        sets[name] = TensorSet(
            blank, _numbers(chosen, classes), classes=classes, ids=ids, name=called
        )
    made = split_up(sets, validation, test, seed, name="sentences", origin={})
    held = made.test.open("finding its sentences")
    placed = {
        name: read[name] if name in read else [train[i] for i in sorted(part.ids.tolist())]
        for name, part in (("validation", made.validation), ("test", held))
    }
    gone = {each.text for name, part in placed.items() if name not in read for each in part}
    placed["train"] = [each for each in train if each.text not in gone]
    taken = sum(len(part) for name, part in placed.items() if name not in read)
    return placed, len(train) - len(placed["train"]) - taken


def _classes(train: Sequence[Sentence]) -> list[str]:
    found = {each.label for each in train if each.label}
    if not 2 <= len(found) <= _MOST_CLASSES:
        raise DataError(
            f"the training sentences have {len(found)} different labels, expected 2 to "
            f"{_MOST_CLASSES}: is every line 'label text', or the right column named?"
        )
    return sorted(found, key=float) if all(map(is_number, found)) else sorted(found)


def _numbers(group: Sequence[Sentence], classes: Sequence[str]) -> Tensor:
    numbers = {name: number for number, name in enumerate(classes)} | {"": -1}
    for each in group:
        if each.label not in numbers:
            raise DataError(
                f"{each.place} has the label {each.label!r}, which train lacks. "
                f"{suggest(each.label, classes)} Use rename to read it as another."
            )
    return torch.tensor([numbers[each.label] for each in group])
