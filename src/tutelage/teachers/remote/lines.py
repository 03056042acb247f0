"""A file of JSON lines that only grows: none is lost, and none is half there."""

import json
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.core.errors import DataError


class Lines:
    r"""Lines that are kept as they come.

    Each is given to the system at once, and made sure of on the disk in batches: a process that
    is killed loses nothing that it wrote, a machine that loses power at most the last batch. A
    last line that was torn is cut off when the lines are read, and so is one that a full disk cuts
    short. One thread at a time.

    Args:
        path: Of the file; made where it is missing.
        every: Lines in a batch.
        seconds: How long a batch may wait.

    Attributes:
        torn: Whether a torn last line was cut off.
        end: Bytes in the file.

    Raises:
        DataError: It cannot be read or written.

    Example:
        >>> import tempfile
        >>> lines = Lines(Path(tempfile.mkdtemp()) / "answers.jsonl")
        >>> place = lines.append({"key": "q1"})
        >>> list(lines), lines.at(place)
        ([(0, b'{"key": "q1"}\n')], b'{"key": "q1"}\n')
        >>> lines.close()
    """

    def __init__(self, path: Path, *, every: int = 32, seconds: float = 5.0):
        self.path, self.torn = path, False
        self._every, self._seconds = every, seconds
        self._unsure, self._sure = 0, time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("ab", buffering=0)
            self._reader = path.open("rb")
            self.end = self._file.tell()
        except OSError as error:
            raise self._failed(error) from error
        self._let_go = weakref.finalize(self, _let_go, self._file, self._reader)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each whole line with its place in the file."""
        place = 0
        self._reader.seek(0)
        for line in self._reader:
            if not line.endswith(b"\n"):
                self.cut(place)
                return
            yield place, line
            place += len(line)

    def at(self, place: int) -> bytes:
        """The line there."""
        self._reader.seek(place)
        return self._reader.readline()

    def cut(self, place: int) -> None:
        """Let go of the last line, which begins there and was torn."""
        self._file.truncate(place)
        self.torn, self.end = True, place

    def append(self, row: Mapping[str, Any]) -> int:
        """Write a line; its place.

        Half a character, which JSON allows and nothing else can read, becomes a question mark.

        Raises:
            DataError: It cannot be written; what was there before still is.
        """
        content = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        place = self.end
        try:
            self._write(content)
            self.end += len(content)
            self._unsure += 1
            if self._unsure >= self._every or time.monotonic() - self._sure >= self._seconds:
                self._make_sure()
        except OSError as error:
            raise self._failed(error) from error
        return place

    def close(self) -> None:
        """Make sure of what is there, and let the file go.

        Raises:
            DataError: The disk does not take it.
        """
        if not self._let_go.alive:
            return
        try:
            self._make_sure()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._let_go()

    def _write(self, content: bytes) -> None:
        written = 0
        try:
            while written < len(content):
                written += self._file.write(content[written:]) or 0
        except OSError:
            # Half a line would swallow the next one.
            self._file.truncate(self.end)
            raise

    def _make_sure(self) -> None:
        if self._unsure:
            os.fsync(self._file.fileno())
        self._unsure, self._sure = 0, time.monotonic()

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"the journal {str(self.path)!r} cannot be used ({error.strerror or error}): make "
            "room, or choose another place."
        )


def _let_go(file: BinaryIO, reader: BinaryIO) -> None:
    file.close()
    reader.close()
