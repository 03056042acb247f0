"""From what was typed to a function that says which version should answer."""

import hashlib
import zipfile
from pathlib import Path

from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.manifest import MANIFEST, SMALL
from tutelage.deployment.serving.holder import Resolve


def resolver(words: str, registry: str | None = None) -> Resolve:
    """Who should answer, to be asked again and again.

    Args:
        words: A package (``.zip`` or folder), a run's folder with ``package`` or ``package.zip``
            in it; else words of the registry: ``NAME``, ``NAME@ALIAS``, ``NAME/NUMBER``.
        registry: The registry's folder or address; None is the usual one.

    Raises:
        RecipeError: There is nothing of that name.

    Example:
        >>> resolver("nowhere.zip")
        Traceback (most recent call last):
        tutelage.core.errors.RecipeError: there is no package 'nowhere.zip': check its path.
    """
    path = Path(words)
    if path.is_dir() and not (path / MANIFEST).is_file():
        path = _of_run(path)
    elif not path.exists() and path.suffix == ".zip":
        raise RecipeError(f"there is no package {words!r:.200}: check its path.")
    elif not path.exists() or registry is not None:
        return _registered(words, registry)
    return lambda: (digest_of(path), path)


def digest_of(package: Path) -> str:
    """SHA-256 of a package's manifest, 64 hexadecimal digits.

    Raises:
        PackageError: There is no manifest to read.
    """
    try:
        if package.is_dir():
            with (package / MANIFEST).open("rb") as file:
                content = file.read(SMALL + 1)
        else:
            with zipfile.ZipFile(package) as archive, archive.open(MANIFEST) as file:
                content = file.read(SMALL + 1)
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise PackageError(f"{package} cannot be read: it has no whole {MANIFEST}.") from error
    return hashlib.sha256(content).hexdigest()


def _of_run(folder: Path) -> Path:
    for name in ("package", "package.zip"):
        if (folder / name).exists():
            return folder / name
    raise RecipeError(
        f"{folder} is no package and holds none: tutelage package {folder} --out "
        f"{folder / 'package'}"
    )


def _registered(words: str, registry: str | None) -> Resolve:
    from tutelage.deployment.registry import Registry

    shelf = Registry.at(registry)

    def resolve() -> tuple[str, Path]:
        version = shelf.resolve(words)
        return version.digest, version.folder

    return resolve
