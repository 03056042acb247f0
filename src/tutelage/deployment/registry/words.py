"""What people type: names, ``NAME@ALIAS``, ``NAME/NUMBER``, and where a registry is."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tutelage.core.errors import RecipeError, suggest

PRODUCTION, CANDIDATE = "production", "candidate"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED = re.compile(r"latest|v[0-9]+", re.IGNORECASE)  # MLflow's own
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Asked:
    """A version in words; the one in production where neither alias nor number is given.

    Attributes:
        name: Of the model.
        alias: Of the version; None where a number is given.
        number: Of the version; None where an alias is given.
    """

    name: str
    alias: str | None
    number: int | None


def asked(words: str) -> Asked:
    """From ``NAME``, ``NAME@ALIAS`` or ``NAME/NUMBER``.

    Raises:
        RecipeError: It is none of these.

    Example:
        >>> asked("digits"), asked("digits/3").number
        (Asked(name='digits', alias='production', number=None), 3)
    """
    name, at, alias = words.partition("@")
    if at:
        return Asked(checked_name(name), checked_alias(alias), None)
    name, slash, number = words.partition("/")
    if not slash:
        return Asked(checked_name(name), PRODUCTION, None)
    if not re.fullmatch(r"[0-9]{1,9}", number) or int(number) == 0:
        raise RecipeError(f"{words!r:.200}: {number!r:.40} is no version: write NAME/1.")
    return Asked(checked_name(name), None, int(number))


def checked_name(name: str) -> str:
    """The name of a model.

    Raises:
        RecipeError: It has other characters, or too many.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r:.120} is no name of a model: 1 to 64 of A-Z, a-z, 0-9, dot, dash and "
            "underscore are needed."
        )
    return name


def checked_alias(alias: str) -> str:
    """An alias of a version.

    Raises:
        RecipeError: It has other characters, or too many, or MLflow keeps it for itself.
    """
    if not _ALIAS.fullmatch(alias) or _RESERVED.fullmatch(alias):
        raise RecipeError(
            f"{alias!r:.120} is no alias: 1 to 64 of A-Z, a-z, 0-9, dash and underscore are "
            "needed, and neither latest nor v1."
        )
    return alias


def default_home() -> Path:
    """``$TUTELAGE_REGISTRY``, or ``tutelage/registry`` below ``$XDG_DATA_HOME``."""
    given = os.environ.get("TUTELAGE_REGISTRY")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "tutelage" / "registry"


def place(words: str | None) -> tuple[Path | None, str | None]:
    """Home and URI from what ``--registry`` says: a folder, or the URI of a server or database.

    Raises:
        RecipeError: The URI is of a kind that MLflow does not keep registries in.

    Example:
        >>> place("registry"), place("http://127.0.0.1:5000")
        ((PosixPath('registry'), None), (None, 'http://127.0.0.1:5000'))
    """
    if not words:
        return None, None
    if "://" not in words:
        return Path(words), None
    return None, checked_uri(words)


def checked_uri(uri: str) -> str:
    """A URI of an MLflow server, or of a database as SQLAlchemy writes it.

    Raises:
        RecipeError: It is of another kind.
    """
    scheme = uri.partition("://")[0].partition("+")[0]
    if "://" not in uri or scheme not in _SCHEMES:
        raise RecipeError(
            f"--registry {uri!r:.200}: {scheme!r:.40} is no place for a registry: give a folder, "
            f"http://HOST:PORT, or sqlite:////absolute/file.db. {suggest(scheme, _SCHEMES)}"
        )
    return uri


def database_of(uri: str) -> Path | None:
    """The file behind a URI of SQLite; None for all others.

    Example:
        >>> database_of("sqlite:////data/r.db"), database_of("http://127.0.0.1:5000")
        (PosixPath('/data/r.db'), None)
    """
    head, _, path = uri.partition(":///")
    if head.partition("+")[0] != "sqlite" or not path:
        return None
    return Path(path.partition("?")[0])
