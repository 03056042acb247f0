"""Answers kept in a file, one a line: what was answered once is not asked again."""

import hashlib
import json
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Self

from tutelage.core.errors import DataError
from tutelage.core.writing import Written
from tutelage.teachers.cache.lock import WriterLock

_FIELDS = tuple(one.name for one in fields(Written))


class Journal:
    """A file of answers, each under its request's key and a hash of all that was asked.

    Every answer is given to the system when it comes, and made sure of on the disk in batches: a
    process that is killed loses nothing that it was told, a machine that loses power at most the
    last batch. A line that was torn is dropped, and its question asked again. One process writes;
    texts stay on the disk, and memory holds some 100 bytes an answer.

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
        self.path, self._every, self._seconds = Path(path), every, seconds
        self.kept = self.torn = self.tokens_read = self.tokens_written = 0
        self._places: dict[bytes, int] = {}
        self._lock, self._unsure, self._sure = Lock(), 0, time.monotonic()
        self._right = WriterLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._right.take():
                raise DataError(
                    f"somebody is writing into {self.path} already: wait until it is closed, or "
                    "name another journal."
                )
            self._file: BinaryIO = self.path.open("ab", buffering=0)
            self._reader = self.path.open("rb")
            self._end = self._read()
        except OSError as error:
            self._right.release()
            raise self._failed(error) from error
        self._let_go = weakref.finalize(self, _let_go, self._file, self._reader, self._right)

    def find(self, key: str, asked: str) -> Written | None:
        """The answer to what was asked under ``key``, or None."""
        place = self._places.get(_digest(key, asked))
        if place is None:
            return None
        with self._lock:
            self._reader.seek(place)
            line = self._reader.readline()
        return _written(line)[0]

    def keep(self, written: Written, asked: str) -> None:
        """Keep an answer.

        Raises:
            DataError: It cannot be written.
        """
        entry = {name: getattr(written, name) for name in _FIELDS}
        entry["facts"] = dict(written.facts)
        line = json.dumps({"asked": asked, **entry}, ensure_ascii=False)
        content = line.encode("utf-8", "replace") + b"\n"
        try:
            with self._lock:
                self._append(content)
                self._places[_digest(written.key, asked)] = self._end
                self._end += len(content)
                self._count(written)
                self._unsure += 1
                now = time.monotonic()
                if self._unsure >= self._every or now - self._sure >= self._seconds:
                    self._make_sure()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Make sure of what is there, and let the file go."""
        with self._lock:
            if self._let_go.alive:
                self._make_sure()
                self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, content: bytes) -> None:
        written = 0
        try:
            while written < len(content):
                written += self._file.write(content[written:]) or 0
        except OSError:
            # Half a line would swallow the next one.
            self._file.truncate(self._end)
            raise

    def _make_sure(self) -> None:
        if self._unsure:
            os.fsync(self._file.fileno())
        self._unsure, self._sure = 0, time.monotonic()

    def _read(self) -> int:
        """Find what is there, and cut a torn last line off."""
        end = 0
        for line in self._reader:
            if not line.endswith(b"\n"):
                self.torn += 1
                break
            written, asked = _written(line)
            if written is None:
                self.torn += 1
            else:
                self._places[_digest(written.key, asked)] = end
                self._count(written)
            end += len(line)
        self._file.truncate(end)
        return end

    def _count(self, written: Written) -> None:
        self.kept = len(self._places)
        self.tokens_read += written.tokens_read
        self.tokens_written += written.tokens_written

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"the journal {self.path} cannot be used ({error.strerror or error}): make room, or "
            "name another file."
        )


def _let_go(file: BinaryIO, reader: BinaryIO, right: WriterLock) -> None:
    file.close()
    reader.close()
    right.release()


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
