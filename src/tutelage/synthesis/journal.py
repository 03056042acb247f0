"""What was answered, kept line by line as it comes, so that nobody is asked twice."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tutelage.core.errors import DataError
from tutelage.core.writing import Written
from tutelage.synthesis.costs import Spent, cost_of

_BATCH = 32  # answers between two calls of fsync
_WORDS = {"key": str, "text": str, "finish": str, "model": str, "error": str, "day": str}
_COUNTS = ("tokens_read", "tokens_written")


class Journal:
    """The answers of one stage, in a file of JSON lines.

    Each is handed to the system as it comes, so it outlives this process however that ends; every
    32 and at the end it is made to outlive the machine. A last line that was torn is cut off.

    Args:
        path: The file; made where it is missing.

    Raises:
        DataError: The file cannot be opened, or a line before the last is broken.
    """

    def __init__(self, path: Path):
        self.path = path
        self.answers: dict[str, Written] = {}
        self.days: dict[str, str] = {}
        self.failed: dict[str, Written] = {}
        self._waiting = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        self._load()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, answer: Written, day: str) -> None:
        """Keep an answer; one that failed is kept too, and asked again in a later run.

        Raises:
            DataError: It cannot be written.
        """
        row = {**asdict(answer), "facts": dict(answer.facts), "day": day}
        del row["logprobs"]
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            self._waiting += 1
            if self._waiting >= _BATCH:
                self._sync()
        except OSError as error:
            raise self._unwritable(error) from error
        self._take(row)

    @property
    def spent(self) -> Spent:
        """On the answers that are here."""
        return sum(map(cost_of, self.answers.values()), Spent())

    def close(self) -> None:
        """Make all of it outlive the machine."""
        if not self._file.closed:
            self._sync()
            self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._waiting = 0

    def _load(self) -> None:
        self._file.seek(0)
        good = 0
        for number, line in enumerate(self._file, 1):
            row = _row(line) if line.endswith(b"\n") else None
            if row is None:
                if self._file.read(1):
                    self._file.close()
                    raise DataError(
                        f"line {number} of {str(self.path)!r} is broken: mend it, or remove it "
                        "(what it held is asked again)."
                    )
                self._file.truncate(good)
                break
            good += len(line)
            self._take(row)
        self._file.seek(0, os.SEEK_END)

    def _take(self, row: dict[str, Any]) -> None:
        fields = {k: v for k, v in row.items() if k != "day"}
        fields["text"] = _whole(row["text"])
        answer = Written(**fields)
        self.days[answer.key] = row["day"]
        if answer.finish == "error":
            self.failed[answer.key] = answer
            return
        self.failed.pop(answer.key, None)
        self.answers[answer.key] = answer

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(
            f"the journal {str(self.path)!r} cannot be written ({error.strerror or error}): make "
            "room, or choose another folder."
        )


def _row(line: bytes) -> dict[str, Any] | None:
    """A line as plain data; None where it is not one of ours."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    known = {*_WORDS, *_COUNTS, "facts"}
    if not isinstance(row, dict) or set(row) != known or not isinstance(row["facts"], dict):
        return None
    words = all(isinstance(row[key], kind) for key, kind in _WORDS.items())
    return row if words and all(type(row[key]) is int for key in _COUNTS) else None


def _whole(text: str) -> str:
    """A text that can be written in UTF-8: half a character becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
