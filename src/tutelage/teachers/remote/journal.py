"""Answers kept in a file, one a line: what was answered once is not asked again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any, Self

from tutelage.core.errors import DataError
from tutelage.core.writing import Written
from tutelage.teachers.cache.lock import WriterLock
from tutelage.teachers.remote.lines import Lines

_FIELDS = tuple(one.name for one in fields(Written))


class Journal:
    """A file of answers, each under its request's key and a hash of all that was asked.

    They are kept as `Lines` keeps them. A line that cannot be read is dropped, and its question
    asked again. One process writes; texts stay on the disk, and memory holds some 100 bytes an
    answer.

    Args:
        path: Of the file; made where it is missing.
        every: Answers in a batch.
        seconds: How long a batch may wait.

    Attributes:
        kept: Answers in it.
        torn: Lines that could not be read.
        tokens_read: Of all requests answered in it.
        tokens_written: Of all answers in it.

    Raises:
        DataError: It cannot be read or written, or another process writes into it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> with Journal(path) as journal:
        ...     journal.keep(Written("q1", "Four.", "stop", "small"), "5f")
        >>> with Journal(path) as journal:
        ...     journal.find("q1", "5f").text, journal.find("q1", "other")
        ('Four.', None)
    """

    def __init__(self, path: str | Path, *, every: int = 32, seconds: float = 5.0):
        self.path = Path(path)
        self.kept = self.torn = self.tokens_read = self.tokens_written = 0
        self._places: dict[bytes, int] = {}
        self._lock = Lock()
        self._right = WriterLock(self.path.with_name(f"{self.path.name}.lock"))
        self._lines = Lines(self.path, every=every, seconds=seconds)
        if not self._right.take():
            self._lines.close()
            raise DataError(
                f"somebody is writing into {self.path} already: wait until it is closed, or "
                "name another journal."
            )
        self._read()

    def find(self, key: str, asked: str) -> Written | None:
        """The answer to what was asked under ``key``, or None."""
        place = self._places.get(_digest(key, asked))
        if place is None:
            return None
        with self._lock:
            line = self._lines.at(place)
        return _written(line)[0]

    def keep(self, written: Written, asked: str) -> None:
        """Keep an answer.

        Raises:
            DataError: It cannot be written.
        """
        entry = {name: getattr(written, name) for name in _FIELDS}
        entry["facts"] = dict(written.facts)
        with self._lock:
            place = self._lines.append({"asked": asked, **entry})
            self._places[_digest(written.key, asked)] = place
            self._count(written)

    def close(self) -> None:
        """Make sure of what is there, and let the file go."""
        with self._lock:
            try:
                self._lines.close()
            finally:
                self._right.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        for place, line in self._lines:
            written, asked = _written(line)
            if written is None:
                self.torn += 1
            else:
                self._places[_digest(written.key, asked)] = place
                self._count(written)
        self.torn += self._lines.torn

    def _count(self, written: Written) -> None:
        self.kept = len(self._places)
        self.tokens_read += written.tokens_read
        self.tokens_written += written.tokens_written


def asked_of(what: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of all that a question says.

    >>> asked_of({"a": 1, "b": 2}) == asked_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _digest(key: str, asked: str) -> bytes:
    return hashlib.sha256(f"{asked}\n{key}".encode("utf-8", "replace")).digest()[:16]


def _written(line: bytes) -> tuple[Written | None, str]:
    try:
        entry = json.loads(line)
        asked = entry.pop("asked")
        entry["logprobs"] = tuple(
            (token, value, tuple((other, each) for other, each in top))
            for token, value, top in entry["logprobs"]
        )
        return Written(**entry), asked
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, ""
