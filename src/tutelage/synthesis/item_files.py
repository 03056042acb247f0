"""Items as JSON Lines."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, suggest
from tutelage.data.paths import existing
from tutelage.data.text.reading import Row, checked_text, json_rows
from tutelage.synthesis.item import Dropped, Item, Plain, Step

_KEYS = ("id", "instruction", "input", "answer", "reasoning", "score", "facts", "steps")
_STEP = tuple(each.name for each in fields(Step))


def read_items(path: str | Path, what: str = "items") -> list[Item]:
    """The items of a file, in order; an empty file has none.

    A line is ``{"instruction": ..., "input": ..., "answer": ...}``; all but the first may be
    missing. ``id``, where it is there, must be that of the content.

    Raises:
        DataError: The file cannot be read, or a line is no item: one line with its number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "seeds.jsonl"
        ...     _ = path.write_text('{"instruction": "Name a prime."}')
        ...     read_items(path)[0].instruction
        'Name a prime.'
    """
    found = existing(path, what)
    if found.is_dir():
        raise DataError(f"{what} {str(path)!r} is a folder, expected a .jsonl file: name it.")
    if found.stat().st_size == 0:
        return []
    return [_item(row.content, row) for row in json_rows(found, what)]


def read_dropped(path: Path) -> list[Dropped]:
    """What `write_rows` wrote of dropped items.

    Raises:
        DataError: A line is none of those.
    """
    if path.stat().st_size == 0:
        return []
    return [_dropped(row) for row in json_rows(path, "dropped items")]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write plain data, one line each, so that the file is there whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, even if the machine stops.

    Raises:
        DataError: It cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise DataError(
            f"{str(path)!r} cannot be written ({error.strerror or error}): make room, or choose "
            "another folder."
        ) from error


def _dropped(row: Row) -> Dropped:
    item = row.content.get("item")
    if not isinstance(item, dict):
        raise DataError(f"{row.place} has no 'item': it is no dropped item.")
    said = {key: row.text(key) for key in ("stage", "reason", "why", "request")}
    return Dropped(_item(item, row), **said)


def _item(content: Mapping[str, Any], row: Row) -> Item:
    for key in content:
        if key not in _KEYS:
            raise DataError(f"{row.place} has the key {key!r}. {suggest(key, _KEYS)}")
    instruction = _text(content, "instruction", row)
    if not instruction.strip():
        raise DataError(f"{row.place} has no words in 'instruction': write what is asked.")
    made = Item(
        instruction=instruction,
        input=_text(content, "input", row, ""),
        answer=_text(content, "answer", row, ""),
        reasoning=None if content.get("reasoning") is None else _text(content, "reasoning", row),
        score=_score(content.get("score"), row),
        facts=_facts(content.get("facts", {}), row),
        steps=_steps(content.get("steps", []), row),
    )
    if content.get("id", made.id) != made.id:
        raise DataError(
            f"{row.place} has the id {content['id']!r:.40}, and its content gives {made.id!r}: it "
            "was changed since; remove 'id' to take it as it is."
        )
    return made


def _text(content: Mapping[str, Any], key: str, row: Row, default: str | None = None) -> str:
    if key in content:
        return checked_text(content[key], f"{key!r} in {row.place}")
    if default is None:
        raise DataError(f"{row.place} has no {key!r}. {suggest(key, content)}")
    return default


def _score(found: Any, row: Row) -> float | None:
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 1 <= found <= 10:
        raise DataError(f"{row.place} has the score {found!r:.40}, expected a number from 1 to 10.")
    return float(found)


def _facts(found: Any, row: Row) -> dict[str, Plain]:
    if not isinstance(found, dict):
        raise DataError(f"'facts' in {row.place} is {found!r:.40}, expected a mapping.")
    for key, value in found.items():
        if not isinstance(value, Plain):
            kind = type(value).__name__
            raise DataError(f"the fact {key!r} in {row.place} is a {kind}: write a word or number.")
    return found


def _steps(found: Any, row: Row) -> tuple[Step, ...]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"'steps' in {row.place} is {found!r:.40}, expected a list of mappings.")
    made = []
    for each in found:
        wrong = next((key for key in each if key not in _STEP), None)
        if wrong is not None or "stage" not in each:
            raise DataError(
                f"a step in {row.place} has {wrong or 'no stage'!r}. "
                f"{suggest(str(wrong or 'stage'), _STEP)}"
            )
        parents = each.get("parents", [])
        if not isinstance(parents, list):
            raise DataError(f"the parents in {row.place} are {parents!r:.40}, expected a list.")
        made.append(Step(**{**each, "parents": tuple(map(str, parents))}))
    return tuple(made)
