"""Paths that must exist, and the line that helps when they do not."""

import os
from pathlib import Path

from tutelage.core.errors import DataError, suggest


def existing(path: str | Path, what: str) -> Path:
    """``path`` if it exists; else a `DataError` that suggests the nearest name there.

    Args:
        path: A file or folder; ``~`` is expanded.
        what: What the message calls it, such as "image_folder path".
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"{what} is {path!r}, expected the path of a file or folder.")
    found = Path(path).expanduser()
    if found.exists():
        return found
    parent = found
    while not parent.is_dir() and parent != parent.parent:
        missing, parent = parent.name, parent.parent
    try:
        known = [entry.name for entry in parent.iterdir()]
    except OSError:
        known = []
    raise DataError(
        f"{what} {str(path)!r} does not exist: no {missing!r} in {str(parent)!r}. "
        f"{suggest(missing, known)}"
    )
