"""MLflow as the keeper of models, versions, aliases and runs: every change goes through here."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tutelage.core.errors import NotInstalled, RecipeError
from tutelage.core.quiet import quietly
from tutelage.deployment.registry.words import database_of

_UNSAID = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class Store:
    """The two stores of MLflow behind one URI: of models, and of runs.

    MLflow is imported here, silently, and told to send nothing to anybody. A file of SQLite that
    is not there yet is made beside its name, and gets it when all tables are in it.

    Args:
        uri: Of a server, or of a database as SQLAlchemy writes it.
        artifacts: Where files of runs go, for a database.

    Raises:
        NotInstalled: MLflow is not there.
        RecipeError: There is no registry at this URI, and none can be made.
    """

    def __init__(self, uri: str, artifacts: Path):
        self.uri, self._artifacts = uri, artifacts
        with spoken(uri):
            database = database_of(uri)
            if database is not None and not database.exists():
                _make(database)
            self.models: Any = _models(uri)

    @cached_property
    def runs(self) -> Any:
        """The store of runs; opened when it is first asked."""
        with spoken(self.uri):
            return _runs(self.uri, self._artifacts)

    def add_model(self, name: str) -> None:
        """Make room for versions of a name."""
        with spoken(self.uri):
            self.models.create_registered_model(name)

    def add_version(self, name: str, source: str, run: str, tags: Mapping[str, str]) -> int:
        """A new version with its tags, in one transaction; returns its number."""
        entities = _entities()
        with spoken(self.uri):
            kept = [entities.ModelVersionTag(*each) for each in tags.items()]
            made = self.models.create_model_version(name, source, run, kept)
        return int(made.version)

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Set a tag of a model."""
        tag = _entities().RegisteredModelTag(key, value)
        with spoken(self.uri):
            self.models.set_registered_model_tag(name, tag)

    def tag_version(self, name: str, number: int, key: str, value: str) -> None:
        """Set a tag of a version."""
        tag = _entities().ModelVersionTag(key, value)
        with spoken(self.uri):
            self.models.set_model_version_tag(name, str(number), tag)

    def point(self, name: str, alias: str, number: int) -> None:
        """Let an alias point to a version, in one transaction."""
        with spoken(self.uri):
            self.models.set_registered_model_alias(name, alias, str(number))

    def close(self) -> None:
        """Let go of connections."""
        for store in (self.models, self.__dict__.get("runs")):
            engine = getattr(store, "engine", None)
            if engine is not None:
                engine.dispose()


@contextmanager
def spoken(uri: str, *, silent: bool = True) -> Iterator[None]:
    """MLflow is silent inside, and what goes wrong is one line.

    Args:
        uri: Of the registry, for messages.
        silent: False where other threads go on printing meanwhile: silence is of the process.

    Raises:
        NotInstalled: It is not there.
        RecipeError: What it says.
    """
    os.environ.update(_UNSAID)
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    with quietly() if silent else nullcontext():
        try:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError
        except ImportError as error:
            raise NotInstalled(
                'the registry is kept by MLflow: pip install "tutelage[track]".'
            ) from error
        try:
            yield
        except ImportError as error:
            raise NotInstalled(
                f"{uri.partition(':')[0]} needs a package that is not there ({error}): install it."
            ) from error
        except (MlflowException, SQLAlchemyError) as error:
            raise RecipeError(
                f"the registry at {_without_password(uri)} says: {_line(error)}"
            ) from error


def _without_password(uri: str) -> str:
    head, at, tail = uri.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else uri


def _line(error: Exception) -> str:
    words = " ".join(str(error).split("[SQL:")[0].split())
    return f"{words[:300].rstrip('.')}."


def _make(database: Path) -> None:
    """All tables in a spare file, and its name only then."""
    database.parent.mkdir(parents=True, exist_ok=True)
    left = [f".{database.name}.tmp{more}" for more in ("", "-journal", "-wal", "-shm")]
    spare = database.with_name(left[0])
    try:
        for name in left:
            database.with_name(name).unlink(missing_ok=True)
        store = _models(f"sqlite:///{spare.absolute()}")
        store.engine.dispose()
        spare.replace(database)
    finally:
        for name in left:
            database.with_name(name).unlink(missing_ok=True)


def _models(uri: str) -> Any:
    if not uri.startswith("http"):
        return _class("model_registry.sqlalchemy_store", "SqlAlchemyStore")(uri)
    return _class("model_registry.rest_store", "RestStore")(_credentials(uri))


def _runs(uri: str, artifacts: Path) -> Any:
    if not uri.startswith("http"):
        made = _class("tracking.sqlalchemy_store", "SqlAlchemyStore")
        return made(uri, artifacts.absolute().as_uri())
    return _class("tracking.rest_store", "RestStore")(_credentials(uri))


def _class(module: str, name: str) -> Any:
    """One of MLflow's stores; nothing of another kind is imported."""
    return getattr(import_module(f"mlflow.store.{module}"), name)


def _entities() -> Any:
    return import_module("mlflow.entities.model_registry")


def _credentials(uri: str) -> Any:
    from mlflow.utils.credentials import get_default_host_creds

    return partial(get_default_host_creds, uri)
