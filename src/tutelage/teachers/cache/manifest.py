"""What a cache holds answers of, written beside them; another cache's answers are refused."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tutelage.core.errors import DataError

FORMAT = 2
_WHAT = {
    "format": "in another format",
    "teacher": "for another teacher",
    "data": "for other examples",
    "augment": "for another augmentation",
    "seed": "for views of another seed",
    "form": "in another form",
    "k": "with another k",
    "precision": "in another precision",
    "draws": "with another number of draws",
    "length": "for texts of another length",
    "compute": "by a teacher that computes in another precision",
    "features": "with other features",
    "examples": "for another number of examples",
}


@runtime_checkable
class Views(Protocol):
    """What a cache must know of a source of batches: a `tutelage.data.Loader` says it."""

    @property
    def ids(self) -> Tensor:
        """The numbers of all examples ``(N,)``."""
        ...

    @property
    def views(self) -> int | None:
        """How many different views of each there are; None for a new one in every epoch."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that the views follow from, as plain data: ``data``, ``augment``, ``seed``."""
        ...


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What ``folder`` says it holds, or None where it says nothing yet.

    Raises:
        DataError: The file is broken.
    """
    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.pop("sum", None) != digest(found):
            raise ValueError("its checksum is another")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise DataError(
            f"{path} is broken ({error}): remove the folder, and the cache is built anew."
        ) from error
    return found


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    path = folder / "manifest.json"
    unfinished = path.with_name(f".manifest.{os.getpid()}.part")
    text = json.dumps({**manifest, "sum": digest(manifest)}, indent=1)
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise DataError(
            f"the cache cannot write {path} ({error.strerror or error}): make room, or choose "
            "another folder."
        ) from error


def compare(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a cache of something else, in one line.

    Raises:
        DataError: It names what differs.
    """
    for key, now in wanted.items():
        then = found.get(key)
        if json.dumps(then, sort_keys=True) != json.dumps(now, sort_keys=True):
            raise DataError(
                f"the cache in {folder} was made {_WHAT.get(key, f'with another {key}')} "
                f"({_short(then)}, and this is {_short(now)}): choose another folder, or remove "
                "this one to build it anew."
            )


def digest(plain: Any) -> str:
    """SHA-256 (hex) of plain data."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str) and len(text) == 64:
        return text[:12]
    return text if len(text) <= 120 else f"{text[:117]}..."
