"""How a finished file or folder takes the place of an older one, whatever happens in between.

A file is renamed over the older one. Two folders change places in one step where the system can do
that (Linux, macOS); elsewhere the older one waits under another name, from which `recover` brings
it back if nobody finished.
"""

import ctypes
import os
import re
import shutil
import sys
from pathlib import Path

_HERE = -100  # AT_FDCWD of Linux
_SWAP = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS


def take_place(made: Path, out: Path) -> None:
    """Give ``made`` the name ``out``; at every moment either the older one or this one has it.

    Args:
        made: A file or folder that is whole, on the same disk.
        out: Of the same kind, or not there. What it was is at ``made`` afterwards, where these are
            folders, and gone where they are files.

    Raises:
        OSError: It cannot be renamed; the older one is in its place.
    """
    if made.is_file() or not out.is_dir():
        made.replace(out)
    elif not _swapped(made, out):
        older = waiting(out)
        shutil.rmtree(older, ignore_errors=True)
        out.rename(older)
        try:
            made.rename(out)
        except OSError:
            older.rename(out)
            raise
        older.rename(made)
    _sync_one(out.parent)


def recover(out: Path) -> None:
    """Bring back a folder whose replacement was stopped half way; mostly there is none."""
    older = waiting(out)
    if older.is_dir():
        if os.path.lexists(out):
            shutil.rmtree(older, ignore_errors=True)
        else:
            older.rename(out)


def sweep(out: Path) -> None:
    """Remove what processes left that were killed while they made ``out``."""
    form = re.compile(rf"\.{re.escape(out.name)}\.(\d+)\.tmp")
    for place in out.parent.iterdir():
        match = form.fullmatch(place.name)
        if match and place.is_dir() and not place.is_symlink() and not _runs(int(match[1])):
            shutil.rmtree(place, ignore_errors=True)


def sync(made: Path) -> None:
    """See that a file, or a folder with its files, is on the disk and not only on its way."""
    for path in [made] if made.is_file() else [*made.iterdir(), made]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def waiting(out: Path) -> Path:
    """Where an older folder waits while it is replaced, on systems that cannot swap two."""
    return out.with_name(f".{out.name}.older")


def _swapped(made: Path, out: Path) -> bool:
    """Whether two folders changed places; False where this system or disk cannot do it."""
    library, names = ctypes.CDLL(None, use_errno=True), (os.fsencode(made), os.fsencode(out))
    try:
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, _SWAP) == 0)
        return bool(library.renameat2(_HERE, names[0], _HERE, names[1], _SWAP) == 0)
    except AttributeError:
        return False


def _runs(number: int) -> bool:
    """Whether there is a process of this number; one of somebody else counts."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
