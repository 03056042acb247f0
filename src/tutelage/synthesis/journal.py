"""What was answered, kept line by line as it comes, so that nobody is asked twice."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from tutelage.core.errors import DataError
from tutelage.core.writing import Written
from tutelage.synthesis.costs import Spent, cost_of
from tutelage.teachers.remote.lines import Lines

_WORDS = {"key": str, "text": str, "finish": str, "model": str, "error": str, "day": str}
_COUNTS = ("tokens_read", "tokens_written")


class Journal:
    """The answers of one stage, in a file of JSON lines.

    They are kept as `tutelage.teachers.remote.lines.Lines` keeps them.

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
        self._lines = Lines(path)
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, answer: Written, day: str) -> None:
        """Keep an answer; one that failed is kept too, and asked again in a later run.

        Raises:
            DataError: It cannot be written.
        """
        row = {**asdict(answer), "facts": dict(answer.facts), "day": day}
        del row["logprobs"]
        self._lines.append(row)
        self._take(row)

    @property
    def spent(self) -> Spent:
        """On the answers that are here."""
        return sum(map(cost_of, self.answers.values()), Spent())

    def close(self) -> None:
        """Make all of it outlive the machine."""
        self._lines.close()

    def _load(self) -> None:
        for number, (place, line) in enumerate(self._lines, 1):
            row = _row(line)
            if row is None:
                if place + len(line) == self._lines.end:
                    self._lines.cut(place)
                    return
                self._lines.close()
                raise DataError(
                    f"line {number} of {str(self.path)!r} is broken: mend it, or remove it (what "
                    "it held is asked again)."
                )
            self._take(row)

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
