"""Trained teachers, kept by content: the same model, data and training are not trained twice."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from tutelage.core.errors import TutelageError
from tutelage.models import load_weights, read_metadata, save_weights

_FORMAT = 1


def cache_folder() -> Path:
    """Where what can be made again is kept: ``$TUTELAGE_CACHE``, or ``~/.cache/tutelage``."""
    return Path(os.environ.get("TUTELAGE_CACHE") or Path.home() / ".cache" / "tutelage")


def content_key(*parts: Any) -> str:
    """A name for plain data: the first 32 hex digits of its SHA-256.

    >>> content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    True
    """
    text = json.dumps([_FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TeacherStore:
    """A folder of teachers' weights, each under the key of how it was made."""

    def __init__(self, folder: Path | None = None):
        self._folder = folder or cache_folder() / "teachers"

    def load(self, key: str, model: nn.Module) -> dict[str, str] | None:
        """Put kept weights into ``model``; their notes, or None where there are none.

        A file that is broken counts as absent: the teacher is trained again and replaces it.
        """
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            load_weights(model, path)
            notes = read_metadata(path)
        except (TutelageError, OSError):
            return None
        return notes if {"date", "steps", "seconds"} <= set(notes) else None

    def save(self, key: str, model: nn.Module, notes: dict[str, str]) -> Path:
        """Keep ``model``'s weights."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(model, path, metadata=notes)
        return path

    def path(self, key: str) -> Path:
        """Where the teacher of this key lies, if it does."""
        return self._folder / f"{key}.safetensors"
