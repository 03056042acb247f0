"""MLflow's tables in a file of SQLite, read without MLflow: a look takes less than a millisecond.

Importing MLflow takes seconds; a server that asks every second which version is in production,
and ``tutelage registry list``, need five of its tables. They are read here, never written: every
change goes through MLflow. ``tests/deployment/test_registry_tables.py`` holds what is read against
what MLflow itself answers.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tutelage.core.errors import PackageError
from tutelage.deployment.registry.reading import Row

_LIVE = "current_stage IS NOT 'Deleted_Internal'"
_WAIT = 10.0  # seconds for another process's transaction to end


class Tables:
    """Reads a database; one connection, which several threads may share.

    Args:
        path: The file; where it is not there yet, nothing is registered.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def names(self) -> list[str]:
        """Names of all models, sorted."""
        with self._look() as ask:
            return [name for (name,) in ask("SELECT name FROM registered_models ORDER BY name")]

    def rows(self, name: str) -> list[Row]:
        """All versions of a model, oldest first."""
        with self._look() as ask:
            return _rows(ask, name, "", ())

    def row(self, name: str, alias: str | None, number: int | None) -> Row | None:
        """One version, by alias or number."""
        with self._look() as ask:
            if alias is not None:
                held = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
                number = next((version for (version,) in ask(held, (name, alias))), None)
            if number is None:
                return None
            return next(iter(_rows(ask, name, " AND version = ?", (number,))), None)

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias points to."""
        with self._look() as ask:
            held = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
            return dict(ask(held, (name,)))

    def tags(self, name: str) -> dict[str, str]:
        """Tags of a model."""
        with self._look() as ask:
            return dict(ask("SELECT key, value FROM registered_model_tags WHERE name = ?", (name,)))

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        with self._lock:
            self._drop()

    @contextmanager
    def _look(self) -> Iterator[Any]:
        """Questions that see one state of the database, whoever writes meanwhile."""
        with self._lock:
            connection = self._connected()
            if connection is None:
                yield lambda sql, given=(): iter(())
                return
            try:
                connection.execute("BEGIN")
                yield lambda sql, given=(): connection.execute(sql, given).fetchall()
            except sqlite3.Error as error:
                raise PackageError(
                    f"{self._path} cannot be read as a registry of MLflow ({error}): give "
                    "another one, or bring back a copy."
                ) from error
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _connected(self) -> sqlite3.Connection | None:
        """The connection to the file that is there now: another may have taken its place."""
        try:
            found = self._path.stat()
        except OSError:
            self._drop()
            return None
        if self._connection is None or self._file != (found.st_dev, found.st_ino):
            self._drop()
            self._connection = _opened(self._path)
            self._file = found.st_dev, found.st_ino
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None


def _opened(path: Path) -> sqlite3.Connection:
    """Read and write, though it only reads: who was killed left a journal to be played back."""
    uri = path.absolute().as_uri()

    def connect(mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{uri}?mode={mode}",
            uri=True,
            timeout=_WAIT,
            check_same_thread=False,
            isolation_level=None,
        )

    try:
        return connect("rw")
    except sqlite3.OperationalError:  # somebody else's file
        return connect("ro")


def _rows(ask: Any, name: str, only: str, given: Sequence[Any]) -> list[Row]:
    tags: dict[int, dict[str, str]] = {}
    wanted = (name, *given)
    kept = f"SELECT version, key, value FROM model_version_tags WHERE name = ?{only}"
    for version, key, value in ask(kept, wanted):
        tags.setdefault(version, {})[key] = value
    held: dict[int, list[str]] = {}
    pointing = f"SELECT version, alias FROM registered_model_aliases WHERE name = ?{only}"
    for version, alias in ask(pointing, wanted):
        held.setdefault(version, []).append(alias)
    versions = (
        f"SELECT version, creation_time FROM model_versions WHERE name = ?{only} AND {_LIVE} "
        "ORDER BY version"
    )
    return [
        Row(version, created, tags.get(version, {}), tuple(sorted(held.get(version, ()))))
        for version, created in ask(versions, wanted)
    ]
