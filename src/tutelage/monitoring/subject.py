"""The model that is watched: its name, its classes and its reference, from a package."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tutelage.core.errors import DataError, RecipeError
from tutelage.deployment.manifest import MANIFEST, read_manifest, sha256_of
from tutelage.deployment.reference import REFERENCE, Reference, read_reference
from tutelage.deployment.unpacking import opened


@dataclass(frozen=True)
class Subject:
    """What traffic is compared with.

    Attributes:
        name: For people.
        digest: SHA-256 of the package's manifest; empty for a run folder.
        labels: Names of the classes; none where they are not known.
        reference: What all looks like when it is well.
    """

    name: str
    digest: str
    labels: tuple[str, ...]
    reference: Reference

    def answered(self, version: str) -> bool:
        """Whether rows of such a version are this model's.

        A version is a digest, or at least its first 12 digits; without a digest all are.
        """
        if not self.digest:
            return True
        return version == self.digest or (len(version) >= 12 and self.digest.startswith(version))


def subject_of(package: Path, reference: Path | None = None) -> Subject:
    """Read what is needed of a package, or of a run folder.

    Args:
        package: A package, as a folder or ``.zip``, or a finished run's folder.
        reference: A reference of its own; None takes the one in the package.

    Raises:
        RecipeError: There is no such package, or no reference in it.
        DataError: The reference is broken, or another model's.
        PackageError: The package is not whole.
    """
    if package.is_dir() and not (package / MANIFEST).is_file():
        return _read(package, package, reference, "")
    with opened(package) as folder:
        content = (folder / MANIFEST).read_bytes()
        listed = read_manifest(content)["files"]
        for name in (REFERENCE, "labels.json"):
            if name in listed and sha256_of(folder / name) != listed[name]["sha256"]:
                raise DataError(f"{name} in {package} is not the listed one: get another copy.")
        return _read(package, folder, reference, hashlib.sha256(content).hexdigest())


def _read(package: Path, folder: Path, reference: Path | None, digest: str) -> Subject:
    path = reference or folder / REFERENCE
    if reference is None and not path.is_file():
        raise RecipeError(
            f"there is no {REFERENCE} in {package}: make the run and its package again with this "
            "version, or give --reference FILE."
        )
    found, model = read_reference(path), folder / "student.onnx"
    if found.model and model.is_file() and sha256_of(model) != found.model:
        raise DataError(
            f"{path.name} is of another model than {package}: make the package again, or give the "
            "reference that was made with it."
        )
    labels = _labels(folder / "labels.json")
    if labels and len(labels) != found.logits.shape[1]:
        raise DataError(
            f"{path.name} has {found.logits.shape[1]} classes, and {package} has {len(labels)}: it "
            "is another model's."
        )
    return Subject(
        package.stem if package.suffix == ".zip" else package.name, digest, labels, found
    )


def _labels(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["labels"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name} lists no labels: make the package again.") from error
    return tuple(map(str, found))
