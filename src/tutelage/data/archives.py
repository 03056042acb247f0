"""Files under a folder, or inside a zip archive, read in the same way; nothing is extracted."""

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from tutelage.core.errors import DataError
from tutelage.data.paths import existing

_LARGEST = 256 * 2**20
"""Bytes that one member of an archive may unpack to: more is no image, and maybe a bomb."""


class Tree(Protocol):
    """Files and folders by their relative paths, ``a/b.png``."""

    path: Path
    files: list[str]
    folders: list[str]

    def read(self, name: str) -> bytes:
        """Content of a file; a `DataError` where it cannot be read."""
        ...


def open_tree(path: str | Path, what: str) -> "Folder | Archive":
    """The folder, or zip archive, at ``path``."""
    found = existing(path, what)
    if found.is_dir():
        return Folder(found)
    if zipfile.is_zipfile(found):
        return Archive(found)
    raise DataError(f"{what} {str(path)!r} is neither a folder nor a zip archive: unpack it first.")


class Folder:
    """The files under a folder, sorted; hidden ones are left out."""

    def __init__(self, path: Path):
        self.path = path
        self.files: list[str] = []
        self.folders: list[str] = []
        for place, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(folder for folder in folders if _visible(folder))
            here = Path(place).relative_to(path)
            self.folders += [(here / folder).as_posix() for folder in folders]
            self.files += [(here / file).as_posix() for file in files if _visible(file)]
            if len(here.parts) > 16:
                raise DataError(f"folders under {str(path)!r} are nested in a loop: {place!r}.")
        self.files.sort()

    def read(self, name: str) -> bytes:
        """Content of a file."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {str(self.path / name)!r} ({error.strerror}).") from error


class Archive:
    """The members of a zip archive, sorted; hidden ones are left out.

    It survives pickling and forking: each process opens the file for itself.
    """

    def __init__(self, path: Path):
        self.path = path
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        files: set[str] = set()
        folders: set[str] = set()
        for member in self._open().infolist():
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
                raise DataError(
                    f"zip archive {str(path)!r} has a member {member.filename!r} that points "
                    "outside of it: pack it anew."
                )
            if not all(map(_visible, name.parts)):
                continue
            folders.update(p.as_posix() for p in name.parents if p.name)
            if member.is_dir():
                folders.add(name.as_posix())
            else:
                files.add(name.as_posix())
        self.files = sorted(files)
        self.folders = sorted(folders)

    def read(self, name: str) -> bytes:
        """Content of a member."""
        archive = self._open()
        try:
            if archive.getinfo(name).file_size > _LARGEST:
                raise DataError(
                    f"{name!r} in {str(self.path)!r} unpacks to more than {_LARGEST >> 20} MiB: "
                    "that is no image."
                )
            return archive.read(name)
        # RuntimeError: zipfile's word for a member with a password
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise DataError(f"cannot read {name!r} in {str(self.path)!r} ({error}).") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def __del__(self) -> None:
        if self._handle is not None:
            self._handle[1].close()

    def _open(self) -> zipfile.ZipFile:
        handle = self._handle
        if handle is None or handle[0] != os.getpid():
            try:
                handle = (os.getpid(), zipfile.ZipFile(self.path))
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(
                    f"zip archive {str(self.path)!r} cannot be opened ({error}): "
                    "bring a whole copy."
                ) from error
            self._handle = handle
        return handle[1]


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"
