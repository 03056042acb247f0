"""Chunks of a traffic log: safetensors files that are whole, or skipped."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FORM = "1"
"""Version of the form of chunks."""

PATTERN = "traffic-*.safetensors"
"""Names of chunks; nothing else in the folder is read or removed."""

KEPT = "kept."
ROWS = 512
"""Of a whole chunk."""

_COLUMNS = ("times", "summaries", "logits", "seconds", "shadow")


@dataclass(frozen=True)
class Chunk:
    """Rows of one version and one form.

    Attributes:
        rows: ``times``, ``summaries``, ``logits``, ``seconds``, ``shadow`` with N rows each,
            ``kept_rows`` and ``kept.NAME`` with K rows each.
        version: What they were answered by.
        features: Names of the summary's numbers.
    """

    rows: dict[str, Array] = field(default_factory=dict)
    version: str = ""
    features: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows.get("times", ()))

    def full(self, most_bytes: int) -> bool:
        """Whether the next rows belong into another chunk."""
        size = sum(value.nbytes for value in self.rows.values())
        return not self.rows or len(self) >= ROWS or size > most_bytes / 16

    def fits(self, other: "Chunk") -> bool:
        """Whether the rows of two chunks can stand in one."""

        def form(chunk: "Chunk") -> dict[str, tuple[int, ...]]:
            return {name: value.shape[1:] for name, value in chunk.rows.items()}

        return self.features == other.features and form(self) == form(other)

    def joined(self, other: "Chunk") -> "Chunk":
        """Both, one after the other."""
        moved = {**other.rows, "kept_rows": other.rows["kept_rows"] + len(self)}
        rows = {name: np.concatenate([value, moved[name]]) for name, value in self.rows.items()}
        return Chunk(rows, self.version, self.features)


def save(chunk: Chunk, path: Path) -> None:
    """Write a chunk; it gets its name when it is whole.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    from safetensors.numpy import save as as_bytes

    words = {
        "tutelage.traffic": FORM,
        "version": chunk.version,
        "features": json.dumps(chunk.features),
    }
    rows = {name: np.ascontiguousarray(value) for name, value in chunk.rows.items()}
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.write_bytes(as_bytes(rows, metadata=words))
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def load(path: Path) -> Chunk | None:
    """A chunk; None where the file is truncated, foreign or of another form."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            words = file.metadata() or {}
            if words.get("tutelage.traffic") != FORM:
                return None
            rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
        chunk = Chunk(rows, words["version"], tuple(json.loads(words["features"])))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
    return chunk if _whole(chunk.rows, len(chunk.features)) else None


def _whole(rows: Mapping[str, Array], features: int) -> bool:
    if not {*_COLUMNS, "kept_rows"} <= set(rows):
        return False
    count = len(rows["times"]) if rows["times"].ndim == 1 else -1
    kept = rows["kept_rows"]
    return (
        all(rows[name].ndim > 0 and len(rows[name]) == count for name in _COLUMNS)
        and rows["summaries"].shape == (count, features)
        and rows["logits"].ndim == 2
        and rows["shadow"].shape == rows["logits"].shape
        and kept.ndim == 1
        and all(len(rows[name]) == len(kept) for name in rows if name.startswith(KEPT))
        and (len(kept) == 0 or bool(kept.min() >= 0 and kept.max() < count))
    )


def prune(folder: Path, most_bytes: int, newest: Path) -> None:
    """Remove the oldest chunks until all together fit; the newest stays."""
    sizes = {}
    for path in sorted(folder.glob(PATTERN)):
        with suppress(OSError):
            sizes[path] = path.stat().st_size
    over = sum(sizes.values()) - most_bytes
    for path, size in sizes.items():
        if over <= 0 or path == newest:
            return
        with suppress(OSError):
            path.unlink()
            over -= size
