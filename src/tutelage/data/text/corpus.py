"""Plain text in files: what a language model reads on and on."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.data.splits import Splits
from tutelage.data.text.building import (
    SPLITS,
    Documents,
    asked_for,
    check_word,
    given_files,
    source_of,
    splits_of,
)
from tutelage.data.text.dividing import Part, by_blocks, by_documents
from tutelage.data.text.reading import Paths, files_of, json_rows, read_text
from tutelage.data.text.tokenizing import document, tokenizer_of

_KINDS = ("file", "paragraph", "line")
_WAYS = ("documents", "blocks")
_FEW = 20
_TREATMENT = "Texts are cut into tokens by the tokenizer named here, nothing else was done to them."


@register("data", "text")
def corpus(
    path: str | list[str],
    tokenizer: str | dict[str, Any] = "bytes",
    length: int = 256,
    pack: bool = True,
    documents: str = "file",
    field: str = "text",
    split: str | None = None,
    validation_path: str | list[str] | None = None,
    test_path: str | list[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Splits:
    """Text files, folders of them, or JSON Lines: every token is predicted from those before it.

    A tokenizer that learns does so from the train split alone. Each document gets the tokens that
    begin and end one, where the tokenizer has such. A document that is longer than a row is cut:
    every ``length`` tokens a new row begins, with the last token of the row before it, so that each
    token but a document's first is predicted exactly once. In packed rows no document is predicted
    from another (`tutelage.data.text.TokenSet` says how).

    Args:
        path: Files (``.jsonl`` has an object a line, anything else is text) or folders, whose
            ``.txt`` and ``.jsonl`` files are taken in the order of their names.
        tokenizer: ``bytes``, ``characters``, ``{bpe: {size: 4096}}`` or ``{hf: {path: folder}}``.
        length: Tokens that are read at once.
        pack: Whether documents share rows; else each begins a row, which is filled up.
        documents: What one is in a text file: the whole ``file``, a ``paragraph`` (blank lines
            part them), or a ``line``. In JSON Lines it is always a line.
        field: Of a JSON object: its text.
        split: How train is parted: whole ``documents``, copies of one together, or ``blocks``: the
            text's end. None for documents where there are at least twenty.
        validation_path: Files of the validation split.
        test_path: Files of the test split.
        validation: A fraction, or a number of documents or characters; None for 0.1. Not with
            ``validation_path``.
        test: Likewise, taken out first.
        encoding: Of all files.
        seed: Which documents are taken out.

    Returns:
        Splits of rows of tokens; ``origin`` says how many documents validation and test share
        with train (``shared_documents``).

    Raises:
        DataError: A file is missing, broken or empty, or a word is none of those named here.
    """
    check_word("text", "documents", documents, _KINDS)
    if split is not None:
        check_word("text", "split", split, _WAYS)
    paths = given_files(path, validation_path, test_path)
    missing = asked_for(paths, {"validation": validation, "test": test}, "text")
    read = {
        name: list(_documents(files, name, documents, field, encoding))
        for name, files in paths.items()
    }
    way = split or ("documents" if len(read["train"]) >= _FEW else "blocks")
    parts = {name: list(map(Part, texts)) for name, texts in read.items()}
    parts |= _parted(read["train"], missing, way, seed)
    cutter = tokenizer_of(tokenizer, [part.text for part in parts["train"]])
    found = {
        name: Documents([document(cutter, p.text, first=p.first, last=p.last) for p in parts[name]])
        for name in SPLITS
    }
    seen = {part.text for part in parts["train"]}
    origin = {
        "source": "text",
        "path": path,
        "validation_path": validation_path,
        "test_path": test_path,
        "split": way if missing else None,
        "shared_documents": {
            name: sum(part.text in seen for part in parts[name]) for name in SPLITS[1:]
        },
        "seed": seed,
    }
    return splits_of(
        found,
        cutter,
        length=length,
        together=pack,
        name="text",
        origin=origin,
        treatment=_TREATMENT,
    )


def _parted(
    texts: Sequence[str], missing: Mapping[str, float | None], way: str, seed: int
) -> dict[str, list[Part]]:
    if not missing:
        return {}
    if way == "blocks":
        return by_blocks(texts, missing, "text")
    chosen = by_documents(texts, missing, seed, "text")
    return {name: [Part(texts[i]) for i in numbers] for name, numbers in chosen.items()}


def _documents(paths: Paths, name: str, kind: str, field: str, encoding: str) -> Iterator[str]:
    what = source_of("text", name)
    for file in files_of(paths, what):
        found = [text for text in _of_file(file, what, kind, field, encoding) if text.strip()]
        if not found:
            raise DataError(f"{what} {str(file)!r} holds no text: there is nothing to learn from.")
        yield from found


def _of_file(file: Path, what: str, kind: str, field: str, encoding: str) -> list[str]:
    if file.suffix == ".jsonl":
        return [row.text(field) for row in json_rows(file, what, encoding)]
    text = read_text(file, what, encoding)
    if kind == "file":
        return [text]
    return text.split("\n") if kind == "line" else re.split(r"\n[ \t\r]*\n\s*", text)
