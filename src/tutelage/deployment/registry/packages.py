"""Packages by content: unpacked, checked, and there whole or not at all."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.manifest import MANIFEST, SIGNATURE, check_file, read_manifest, sha256_of
from tutelage.deployment.unpacking import opened
from tutelage.deployment.verify import Checked, verify

_LEFT = re.compile(r"\..*\.tmp")


class Packages:
    """The folders of a registry's home: ``packages/DIGEST`` and ``evidence/DIGEST.json``.

    Writers hold the registry's lock.

    Args:
        home: Of the registry.
    """

    def __init__(self, home: Path):
        self._packages, self._evidence = home / "packages", home / "evidence"

    def folder(self, digest: str) -> Path:
        """Where a package is, if it is."""
        return self._packages / digest

    def take(self, package: Path, key: Path | None) -> tuple[str, Checked]:
        """Unpack a package, check it, and keep it under its digest.

        One that is there already is checked again and used as it is; a signature that was checked
        now takes the place of one that was not.

        Raises:
            PackageError: It is not whole, or not signed by whom it should be.
            RecipeError: There is no such package or key.
        """
        self._packages.mkdir(parents=True, exist_ok=True)
        place = self._packages / f".{os.getpid()}.tmp"
        place.mkdir()
        try:
            with opened(package) as content:
                for file in content.iterdir():
                    shutil.copyfile(file, place / file.name)
            checked, digest = verify(place, key), sha256_of(place / MANIFEST)
            if self.folder(digest).is_dir():
                self._renew(digest, place, key)
            else:
                _synced(place)
                place.rename(self.folder(digest))
                _sync(self._packages)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return digest, checked

    def _renew(self, digest: str, place: Path, key: Path | None) -> None:
        folder = self.folder(digest)
        try:
            self.check(digest)
        except PackageError as error:
            raise PackageError(
                f"the registry's own copy in {folder} is damaged ({error}): remove that folder "
                "and add the package again."
            ) from error
        if key is not None:
            (place / SIGNATURE).replace(folder / SIGNATURE)

    def check(self, digest: str) -> None:
        """See that a kept package is still what was added: sizes and SHA-256 of all files.

        Raises:
            PackageError: It is gone, or was changed.
        """
        folder = self.folder(digest)
        if not (folder / MANIFEST).is_file():
            raise PackageError(
                f"there is no package {digest[:12]} in {folder.parent}: bring it there by "
                "`tutelage registry add`, or set the registry's home that has it."
            )
        if sha256_of(folder / MANIFEST) != digest:
            raise PackageError(f"{folder / MANIFEST} was changed: its SHA-256 is another.")
        listed = read_manifest((folder / MANIFEST).read_bytes())["files"]
        for name, facts in listed.items():
            if not (folder / name).is_file():
                raise PackageError(f"{name} is missing in {folder}.")
            check_file(folder / name, facts)

    def keep(self, evidence: Mapping[str, Any]) -> str:
        """Write evidence down; its name is the SHA-256 of its bytes, which is returned."""
        text = json.dumps(evidence, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._evidence.mkdir(parents=True, exist_ok=True)
        temporary = self._evidence / f".{os.getpid()}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            _sync(temporary)
            temporary.replace(self._evidence / f"{digest}.json")
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    def evidence(self, digest: str) -> dict[str, Any]:
        """Evidence that was kept.

        Raises:
            RecipeError: It is not in this home.
            PackageError: It was changed.
        """
        path = self._evidence / f"{digest}.json"
        if not path.is_file():
            raise RecipeError(f"there is no evidence {digest[:12]} in {self._evidence}.")
        if sha256_of(path) != digest:
            raise PackageError(f"{path} was changed: its SHA-256 is another.")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def sweep(self) -> None:
        """Remove what somebody who was killed left half done; nobody else may be writing."""
        for folder in (self._packages, self._evidence):
            for path in folder.iterdir() if folder.is_dir() else ():
                if not _LEFT.fullmatch(path.name):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _synced(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
