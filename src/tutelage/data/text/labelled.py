"""Labelled sentences out of files."""

import csv as csv_format
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from tutelage.core.errors import DataError, suggest
from tutelage.data.text.reading import Paths, files_of, json_rows, read_text

_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Sentence:
    """One example.

    Attributes:
        text: The words.
        label: Of its class; empty where it is not known.
        place: Where it stands, for messages.
    """

    text: str
    label: str
    place: str


def labelled_sentences(
    paths: Paths,
    what: str,
    text: str,
    label: str,
    rename: Mapping[str, str],
    encoding: str = "utf-8",
) -> Iterator[Sentence]:
    """The sentences of files and folders, in their order.

    Args:
        paths: ``.csv`` and ``.tsv`` have a header line, ``.jsonl`` an object a line, any other a
            label, a space or tab, and the text.
        what: What messages call them.
        text: The column, or key, of the words.
        label: That of the class.
        rename: Labels to be read as others.
        encoding: Of all files.

    Raises:
        DataError: A file cannot be read, or a line is not as it must be.
    """
    for file in files_of(paths, what, _SUFFIXES):
        for words, kind, line in _of_file(file, what, text, label, encoding):
            place = f"line {line} of {str(file)!r}"
            if not words.strip():
                raise DataError(f"{place} has no text: fill it, or remove the line.")
            yield Sentence(words, rename.get(kind, kind), place)


def _of_file(
    file: Path, what: str, text: str, label: str, encoding: str
) -> Iterator[tuple[str, str, int]]:
    """Text, label and line of each sentence of a file."""
    if file.suffix == ".jsonl":
        for row in json_rows(file, what, encoding):
            found = row.content.get(label)
            if not isinstance(found, str | int | None) or isinstance(found, bool):
                raise DataError(f"{label!r} in {row.place} is {found!r}, expected a label.")
            yield row.text(text), "" if found is None else str(found), row.line
    elif file.suffix in (".csv", ".tsv"):
        yield from _of_table(file, read_text(file, what, encoding), text, label)
    else:
        lines = read_text(file, what, encoding).split("\n")
        for number, line in enumerate(lines, 1):
            if line.strip():
                kind, *words = line.split(maxsplit=1)
                yield "".join(words).strip(), kind, number


def _of_table(file: Path, content: str, text: str, label: str) -> Iterator[tuple[str, str, int]]:
    tabs = file.suffix == ".tsv"
    reader = csv_format.DictReader(
        StringIO(content, newline=""),
        delimiter="\t" if tabs else ",",
        quoting=csv_format.QUOTE_NONE if tabs else csv_format.QUOTE_MINIMAL,
        strict=True,
    )
    for name in (text, label):
        if name not in (reader.fieldnames or ()):
            near = suggest(name, reader.fieldnames or ())
            raise DataError(f"{str(file)!r} has no column {name!r} in its first line. {near}")
    try:
        for row in reader:
            if row[text] is None or row[label] is None or None in row:
                raise DataError(
                    f"line {reader.line_num} of {str(file)!r} has another number of cells than the "
                    "header: mend it."
                )
            yield row[text], row[label].strip(), reader.line_num
    except csv_format.Error as error:
        raise DataError(
            f"line {reader.line_num} of {str(file)!r} cannot be read ({error}): mend it."
        ) from error
