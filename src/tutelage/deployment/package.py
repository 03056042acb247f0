"""A folder of papers and models becomes one package, whole or not at all."""

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.manifest import MANIFEST, SIGNATURE, check_name, manifest_of
from tutelage.deployment.placing import recover, sweep, sync, take_place
from tutelage.deployment.signature import sign
from tutelage.deployment.verify import Checked, verify

_STORED = (".onnx", ".safetensors")  # weights hardly shrink
_DAY = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive


def pack(
    files: Mapping[str, Path | str | Mapping[str, Any]],
    out: Path,
    *,
    run: Mapping[str, Any],
    version: str,
    date: str,
    key: Path | None = None,
    force: bool = False,
) -> Checked:
    """Write a package, check it as a receiver would, and only then give it its name.

    Args:
        files: By name: a file to copy, a text, or data for JSON.
        out: ``NAME.zip``, or a folder.
        run: See `tutelage.deployment.manifest.manifest_of`.
        version: Of tutelage.
        date: ``2026-01-31``.
        key: What to sign with (see `sign`); None leaves it unsigned.
        force: Whether a package that is there is replaced; anything else never is.

    Returns:
        What the check found.

    Raises:
        RecipeError: The target is there, or cannot be written; the key is none.
        PackageError: A file is broken, so that the package would not pass its check.
    """
    _make_way(out, force)
    try:
        with _beside(out) as place:
            content = place / "content"
            content.mkdir()
            for name, what in files.items():
                _put(content / name, what)
            manifest = manifest_of(content, run=run, version=version, date=date)
            _put(content / MANIFEST, manifest)
            if key is not None:
                _put(content / SIGNATURE, sign((content / MANIFEST).read_bytes(), key))
            made = _zipped(content, place / out.name) if _is_zip(out) else content
            checked = verify(made, key)
            sync(made)
            _make_way(out, force)
            take_place(made, out)
    except OSError as error:
        raise RecipeError(
            f"--out: {out} cannot be written ({error.strerror or error}): choose another place."
        ) from error
    return checked


def _is_zip(out: Path) -> bool:
    return out.suffix.lower() == ".zip"


def _make_way(out: Path, force: bool) -> None:
    if out.suffix.lower() in (".tar", ".gz", ".tgz", ".7z", ".bz2", ".xz"):
        raise RecipeError(f"--out: {out} is neither a .zip nor a folder: name one of these.")
    recover(out)
    if not os.path.lexists(out):
        return
    if not force:
        raise RecipeError(f"--out: {out} is there already: choose another name, or give --force.")
    if not _is_package(out):
        raise RecipeError(
            f"--out: {out} is no package, and --force replaces nothing else: choose another name."
        )


def _is_package(out: Path) -> bool:
    if out.is_symlink():
        return False
    if not _is_zip(out):
        return (out / MANIFEST).is_file()
    try:
        with zipfile.ZipFile(out) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A hidden folder on the same disk, gone afterwards."""
    out.parent.mkdir(parents=True, exist_ok=True)
    place = out.parent / f".{out.name}.{os.getpid()}.tmp"
    sweep(out)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _put(target: Path, what: Path | str | Mapping[str, Any]) -> None:
    check_name(target.name)
    if isinstance(what, Path):
        shutil.copyfile(what, target)
    elif isinstance(what, str):
        target.write_text(what, encoding="utf-8")
    else:
        text = json.dumps(what, indent=1, ensure_ascii=False, allow_nan=False)
        target.write_text(text + "\n", encoding="utf-8")


def _zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "x") as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(path.name, _DAY)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = (
                zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
            )
            entry.file_size = path.stat().st_size  # large files need to be known as such
            with path.open("rb") as source, archive.open(entry, "w") as file:
                shutil.copyfileobj(source, file, 2**20)
    return target


def refuse_unfinished(folder: Path, names: tuple[str, ...]) -> None:
    """See that a run's folder has what a package is made of.

    Raises:
        PackageError: A file is there, and empty.
        RecipeError: One is not there: the run is not finished.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise RecipeError(
                f"there is no {name} in {folder}: give the folder of a finished run whose recipe "
                "does not say export: false."
            )
        if path.stat().st_size == 0:
            raise PackageError(f"{path} is empty: make the run again.")
