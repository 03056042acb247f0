"""A package as a folder to look into, with nothing of it trusted: zip archives are opened here."""

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.manifest import (
    LARGEST,
    MANIFEST,
    SIGNATURE,
    SMALL,
    check_name,
    check_names,
    read_manifest,
)
from tutelage.deployment.placing import waiting

_MOST_FILES = 100
_RATIO, _FREE = 200, 2**20  # how far a file may have been squeezed, from which size on
_CHUNK = 2**20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@contextmanager
def opened(package: Path) -> Iterator[Path]:
    """A folder with the package's files, each name plain, once, and listed.

    A folder is looked at where it is; an archive's files are put into a spare one, which is gone
    afterwards. No byte is written before all names and claimed sizes were found in order.

    Args:
        package: A ``.zip`` or a folder.

    Raises:
        RecipeError: There is no such thing, or it is neither.
        PackageError: It is broken, or holds what a package does not.
    """
    if package.is_dir():
        _look(package)
        yield package
        return
    if not package.is_file():
        older = waiting(package)
        if older.is_dir():
            raise RecipeError(
                f"there is no package {str(package)!r:.200}: its replacement was stopped half way, "
                f"and the older one is at {str(older)!r:.200}: rename it, or pack again."
            )
        raise RecipeError(f"there is no package {str(package)!r:.200}: check its path.")
    if not zipfile.is_zipfile(package):
        if package.suffix.lower() == ".zip":
            raise PackageError(f"{package} is no whole zip archive: get another copy.")
        raise RecipeError(f"{package} is no package: give a .zip archive or a folder.")
    with tempfile.TemporaryDirectory() as spare:
        try:
            with zipfile.ZipFile(package) as archive:
                _unpack(archive, Path(spare))
        except _BROKEN as error:
            line = " ".join(str(error).split())[:120]
            raise PackageError(f"{package} is no whole zip archive: {line}.") from error
        except OSError as error:
            raise PackageError(
                f"{package} cannot be unpacked: {error.strerror or error}."
            ) from error
        yield Path(spare)


def _look(folder: Path) -> None:
    names = []
    for path in sorted(folder.iterdir()):
        check_name(path.name)
        if not stat.S_ISREG(path.lstat().st_mode):
            raise PackageError(f"{path.name} is no plain file: a package has no folders and links.")
        names.append(path.name)
        if len(names) > _MOST_FILES:
            raise PackageError(f"{folder} holds more than {_MOST_FILES} files: it is no package.")
    if MANIFEST not in names:
        raise PackageError(f"there is no {MANIFEST}: this is no package, or a part is lost.")
    for name in {MANIFEST, SIGNATURE} & set(names):
        if (folder / name).stat().st_size > SMALL:
            raise PackageError(f"{name} is larger than {SMALL:,} bytes.")
    listed = read_manifest((folder / MANIFEST).read_bytes())["files"]
    check_names(names, listed, signed=True)


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    entries = archive.infolist()
    if len(entries) > _MOST_FILES:
        raise PackageError(f"it holds {len(entries)} files, and at most {_MOST_FILES} are taken.")
    for entry in entries:
        _suspect(entry)
    if sum(entry.file_size for entry in entries) > LARGEST:
        raise PackageError(f"its files are said to be larger than {LARGEST:,} bytes together.")
    names = [entry.filename for entry in entries]
    if names.count(MANIFEST) != 1:
        raise PackageError(f"{MANIFEST} is in it {names.count(MANIFEST)} times: once is needed.")
    listed = read_manifest(archive.read(MANIFEST))["files"]
    check_names(names, listed, signed=True)
    for entry in entries:
        wanted = listed.get(entry.filename, {"bytes": entry.file_size})["bytes"]
        if entry.file_size != wanted:
            raise PackageError(
                f"{entry.filename} has {entry.file_size:,} bytes, and {wanted:,} are listed."
            )
    if sum(entry.file_size for entry in entries) > shutil.disk_usage(folder).free:
        raise RecipeError(f"there is too little room in {folder.parent} to unpack the package.")
    for entry in entries:
        _take(archive, entry, folder / entry.filename)


def _suspect(entry: zipfile.ZipInfo) -> None:
    name, size = entry.filename, entry.file_size
    check_name(entry.orig_filename)
    check_name(name)
    if entry.flag_bits & 1:
        raise PackageError(f"{name} is encrypted, and files of a package are not.")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise PackageError(f"{name} is no plain file: a package has no folders and links.")
    if name in (MANIFEST, SIGNATURE) and size > SMALL:
        raise PackageError(f"{name} is said to be {size:,} bytes, larger than {SMALL:,}.")
    if size > _FREE and size > _RATIO * entry.compress_size:
        raise PackageError(
            f"{name} is said to grow from {entry.compress_size:,} to {size:,} bytes: refused."
        )


def _take(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise PackageError(f"{entry.filename} is larger than it is said to be.")
            file.write(chunk)
