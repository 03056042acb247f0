"""Texts out of files, and the one line that says where a file is broken."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, suggest
from tutelage.data.paths import existing

SUFFIXES = (".txt", ".jsonl")
Paths = str | list[str]
"""A file or folder, or several."""


@dataclass(frozen=True)
class Row:
    """One object of a JSON Lines file.

    Attributes:
        content: What it holds.
        path: The file.
        line: From 1.
    """

    content: dict[str, Any]
    path: str
    line: int

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"line {self.line} of {self.path!r}"

    def text(self, key: str) -> str:
        """The text under ``key``.

        Raises:
            DataError: It is not there, or no text.
        """
        if key not in self.content:
            raise DataError(f"{self.place} has no {key!r}. {suggest(key, self.content)}")
        return checked_text(self.content[key], f"{key!r} in {self.place}")


def checked_text(found: Any, what: str) -> str:
    """``found`` if it is Unicode text, else the line that says what it is."""
    if not isinstance(found, str):
        kind = type(found).__name__
        raise DataError(f"{what} is of type {kind}, expected a text: write it in quotes.")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} has half a character (a lone surrogate, number {error.start}): mend it."
        ) from error
    return found


def files_of(paths: Paths, what: str, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The files that are meant, folders gone through in the order of their names.

    Args:
        paths: Files, taken whatever they are called, and folders.
        what: What messages call them, such as "text path".
        suffixes: Of files that are taken out of folders.

    Raises:
        DataError: One does not exist, or a folder holds no such file.
    """
    written = [paths] if isinstance(paths, str | Path) else paths
    if not isinstance(written, list) or not written:
        raise DataError(f"{what} is {paths!r}, expected a file or folder, or a list of some.")
    found: list[Path] = []
    for each in written:
        place = existing(each, what)
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(p for p in place.rglob("*") if p.suffix in suffixes and p.is_file())
        if not inside:
            raise DataError(
                f"{what} {str(place)!r} is a folder without {' or '.join(suffixes)} files: name "
                "the files themselves."
            )
        found += inside
    return found


def read_text(path: Path, what: str, encoding: str = "utf-8") -> str:
    """The text of a file, line ends and all; a mark of byte order in front is dropped.

    Raises:
        DataError: The file cannot be read, is of another encoding, or holds no text.
    """
    try:
        text = path.read_bytes().decode(encoding)
    except OSError as error:
        raise DataError(f"{what} {str(path)!r} cannot be read ({error.strerror}).") from error
    except LookupError as error:
        raise DataError(
            f"encoding is {encoding!r}, which is none: write utf-8, latin-1 or cp1252, say."
        ) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise DataError(
            f"{what} {str(path)!r} is not {encoding}: byte 0x{error.object[error.start]:02x} in "
            f"line {line}, column {column} (byte {error.start} of the file): save it as UTF-8, or "
            "give its encoding, such as latin-1."
        ) from error
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"{what} {str(path)!r} holds no text: there is nothing to learn from.")
    return text


def json_rows(path: Path, what: str, encoding: str = "utf-8") -> Iterator[Row]:
    """The objects of a JSON Lines file; blank lines are passed over.

    Raises:
        DataError: A line is no JSON object.
    """
    for number, line in enumerate(read_text(path, what, encoding).split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number} of {str(path)!r}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{place} is no JSON ({error}): one object a line is expected."
            ) from error
        if not isinstance(content, dict):
            kind = type(content).__name__
            raise DataError(f"{place} is of type {kind}, expected an object: {{...}}.")
        yield Row(content, str(path), number)
