"""A registry of packages: versions by name, aliases that move by one step, and their history."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage.core.errors import RecipeError, suggest
from tutelage.deployment.registry import history
from tutelage.deployment.registry.asking import Asking
from tutelage.deployment.registry.entering import enter
from tutelage.deployment.registry.locks import locked
from tutelage.deployment.registry.moves import Moves
from tutelage.deployment.registry.packages import Packages
from tutelage.deployment.registry.reading import DIGEST, LINEAGE, Reader, Row
from tutelage.deployment.registry.runs import Told, write_run
from tutelage.deployment.registry.store import Store
from tutelage.deployment.registry.tables import Tables
from tutelage.deployment.registry.version import Event, Version
from tutelage.deployment.registry.words import (
    PRODUCTION,
    asked,
    checked_alias,
    checked_name,
    checked_uri,
    database_of,
    default_home,
    place,
)


class Registry:
    """Models by name, each with numbered versions; aliases say which one is meant.

    MLflow keeps names, versions, aliases and tags; packages are folders below ``home``, named by
    their digest. Writers wait for each other; whoever is killed at any moment leaves a registry
    that is whole, with the old version where it was. Reading a file of SQLite does not import
    MLflow.

    Args:
        home: A folder, made when first written to; by default ``$TUTELAGE_REGISTRY``, or
            ``~/.local/share/tutelage/registry``.
        uri: Of an MLflow server or of a database; by default ``registry.db`` in ``home``.

    Raises:
        RecipeError: The URI is none that a registry can be in.
    """

    def __init__(self, home: str | Path | None = None, uri: str | None = None):
        self.home = (default_home() if home is None else Path(home)).absolute()
        own = f"sqlite:///{self.home / 'registry.db'}"
        self.uri = own if uri is None else checked_uri(uri)
        self._packages = Packages(self.home)
        self._database = database_of(self.uri)
        self._opened: Store | None = None
        self._reader: Reader = (
            Asking(self._store) if self._database is None else Tables(self._database)
        )

    @classmethod
    def at(cls, words: str | None) -> "Registry":
        """From what ``--registry`` says: a folder, a URI, or None for the default."""
        return cls(*place(words))

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections; the registry may be used again."""
        self._reader.close()
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def names(self) -> list[str]:
        """Names of models that have a version, sorted."""
        return [name for name in self._reader.names() if self.versions(name)]

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, oldest first; none where there is no such model."""
        found = [self._version(name, row) for row in self._reader.rows(checked_name(name))]
        return [each for each in found if each is not None]

    def resolve(self, words: str) -> Version:
        """The version that is meant: ``NAME`` (in production), ``NAME@ALIAS``, ``NAME/NUMBER``.

        Cheap enough to be asked every second, and right while another process promotes: it says
        the old version or the new one.

        Raises:
            RecipeError: There is no such name, alias or number, or its package is not here.
        """
        wanted = asked(words)
        row = self._reader.row(wanted.name, wanted.alias, wanted.number)
        found = None if row is None else self._version(wanted.name, row)
        if found is None:
            raise self._unknown(wanted.name, wanted.alias, wanted.number)
        if not found.folder.is_dir():
            raise RecipeError(
                f"the package of {found.words} is not in {self.home}: add it again there "
                f"(`tutelage registry add {found.name} PACKAGE`), or give the home that has it."
            )
        return found

    def history(self, name: str) -> list[Event]:
        """What happened to a model's aliases, oldest first; empty for one that is not there."""
        return history.told(
            history.of_tags(self._reader.tags(checked_name(name))), self._reader.aliases(name)
        )

    def add(
        self, name: str, package: str | Path, *, key: str | Path | None = None,
        alias: str | None = None,
    ) -> Version:  # fmt: skip
        """Check a package and keep it as a new version; the same package is the same version.

        Args:
            name: Of the model: 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore.
            package: A ``.zip`` or a folder, see `tutelage.deployment.package.pack`.
            key: What it must be signed with.
            alias: A name for it, like ``candidate``; one that gates guard is refused.

        Raises:
            PackageError: It is not whole, or not signed by whom it should be.
            RecipeError: A word is wrong, or the disk is full; nothing is added then.
        """
        return self.adding(name, package, key=key, alias=alias)[0]

    def adding(
        self, name: str, package: str | Path, *, key: str | Path | None = None,
        alias: str | None = None,
    ) -> tuple[Version, bool]:  # fmt: skip
        """As `add`; and whether the version is new."""
        checked_name(name)
        if alias is not None:
            self._check_free(name, checked_alias(alias))
        with self._writing() as store:
            digest, checked = self._packages.take(Path(package), None if key is None else Path(key))
            found = next((each for each in self.versions(name) if each.digest == digest), None)
            number = (
                found.number
                if found
                else enter(store, self._reader, self._packages, name, digest, checked.signature)
            )
            if found and key is not None and found.lineage.get("signature") != checked.signature:
                words = {**found.lineage, "signature": checked.signature}
                store.tag_version(name, number, LINEAGE, json.dumps(words))
            if alias is not None and self._reader.aliases(name).get(alias) != number:
                self._moves(store).move("alias", name, alias, number)
        return self.resolve(f"{name}/{number}"), found is None

    def promote(
        self, name: str, number: int, *, alias: str = PRODUCTION,
        evidence: Mapping[str, Any] | None = None, why: str = "",
    ) -> Version:  # fmt: skip
        """Let an alias point to a version, on the grounds of evidence.

        `tutelage.recipe.promoting.promote` makes the evidence; this writes it down and moves the
        alias.

        Args:
            name: Of the model.
            number: Of the version.
            alias: Which alias.
            evidence: ``passed`` must be true; ``against`` is the number of the version it was held
                against, which the alias must still point to (None for none). Kept as JSON.
            why: In words; needed where there is no evidence.

        Raises:
            RecipeError: The evidence does not allow it, or is about another version, or there is
                none and no reason; the version is there already.
            PackageError: Its package was changed.
        """
        wanted = self.resolve(f"{name}/{number}")
        with self._writing() as store:
            return self._moves(store).promote(wanted, checked_alias(alias), evidence, why)

    def refuse(
        self, name: str, number: int, *, alias: str = PRODUCTION,
        evidence: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Write down that a version did not pass the gates; nothing moves."""
        wanted = self.resolve(f"{name}/{number}")
        with self._writing() as store:
            self._moves(store).refuse(wanted, checked_alias(alias), evidence)

    def rollback(self, name: str, *, alias: str = PRODUCTION, why: str = "") -> Version:
        """Point an alias to the version it pointed to before; again: to the one before that.

        Raises:
            RecipeError: There is none before.
            PackageError: Its package was changed.
        """
        self._known(checked_name(name))
        with self._writing() as store:
            number = self._moves(store).rollback(name, checked_alias(alias), why)
        return self.resolve(f"{name}/{number}")

    def evidence(self, digest: str) -> dict[str, Any]:
        """The evidence of an event, see `Event.evidence`.

        Raises:
            RecipeError: It is not in this home.
            PackageError: It was changed.
        """
        return self._packages.evidence(digest)

    def write_run(self, told: Told) -> tuple[str, bool]:
        """Write a finished run, unless it is there; returns its id, and whether it is new."""
        with self._writing() as store:
            return write_run(store, told)

    def _moves(self, store: Store) -> Moves:
        return Moves(store, self._reader, self._packages)

    def _check_free(self, name: str, alias: str) -> None:
        """Refuse to give away by `add` what only a promotion may give."""
        guarded = {each.alias for each in self.history(name) if each.kind == "promote"}
        if alias in {PRODUCTION, *guarded}:
            raise RecipeError(
                f"--alias {alias}: gates guard it: add the package under another alias, and "
                f"`tutelage registry promote {name} NUMBER --alias {alias}`."
            )

    def _store(self) -> Store:
        if self._opened is None:
            self._opened = Store(self.uri, self.home / "artifacts")
        return self._opened

    @contextmanager
    def _writing(self) -> Iterator[Store]:
        """One writer at a time; what stopped writers left is swept; a full disk is one line."""
        try:
            with ExitStack() as held:
                self.home.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.home / ".lock"))
                if self._database is not None:
                    self._database.parent.mkdir(parents=True, exist_ok=True)
                    beside = self._database.with_name(f".{self._database.name}.lock")
                    held.enter_context(locked(beside))
                self._packages.sweep()
                yield self._store()
        except OSError as error:
            raise RecipeError(
                f"the registry in {self.home} cannot be written ({error.strerror or error}): make "
                "room, or give another --registry; nothing was changed."
            ) from error

    def _version(self, name: str, row: Row) -> Version | None:
        """None for a version that another tool registered."""
        digest = row.tags.get(DIGEST)
        if digest is None:
            return None
        added = datetime.fromtimestamp(row.created / 1000, UTC).isoformat(timespec="milliseconds")
        words = json.loads(row.tags.get(LINEAGE, "{}"))
        folder = self._packages.folder(digest)
        return Version(name, row.number, folder, digest, row.aliases, added, words)

    def _known(self, name: str) -> None:
        if not self.versions(name):
            raise self._unknown(name, None, 1)

    def _unknown(self, name: str, alias: str | None, number: int | None) -> RecipeError:
        names = self.names()
        if name not in names:
            return RecipeError(
                f"there is no model {name!r} in the registry of {self.home}. {suggest(name, names)}"
            )
        if alias is not None:
            held = self._reader.aliases(name)
            return RecipeError(f"{name} has no alias {alias!r}. {suggest(alias, held)}")
        known = [str(each.number) for each in self.versions(name)]
        return RecipeError(f"{name} has no version {number}. {suggest(str(number), known)}")
