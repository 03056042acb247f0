"""Models and versions as MLflow tells them: for servers, and databases other than SQLite."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.deployment.registry.reading import Row
from tutelage.deployment.registry.store import Store, spoken

_PAGE = 100


class Asking:
    """Reads a store of MLflow's; it is opened with the first question.

    Args:
        store: Opens it.
    """

    def __init__(self, store: Callable[[], Store]):
        self._store = store

    def names(self) -> list[str]:
        """Names of all models, sorted."""
        store = self._store()
        with _reading(store):
            return sorted(each.name for each in _all(store.models.search_registered_models, None))

    def rows(self, name: str) -> list[Row]:
        """All versions of a model, oldest first."""
        store, held = self._store(), self.aliases(name)
        with _reading(store):
            found = _all(store.models.search_model_versions, f"name='{name}'")
        return sorted((_row(each, held) for each in found), key=lambda row: row.number)

    def row(self, name: str, alias: str | None, number: int | None) -> Row | None:
        """One version, by alias or number."""
        held = self.aliases(name)
        number = held.get(alias) if alias is not None else number
        if number is None:
            return None
        store = self._store()
        found = _known(store, lambda: store.models.get_model_version(name, str(number)))
        return None if found is None else _row(found, held)

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias points to."""
        model = self._model(name)
        return {} if model is None else {k: int(v) for k, v in model.aliases.items()}

    def tags(self, name: str) -> dict[str, str]:
        """Tags of a model."""
        model = self._model(name)
        return {} if model is None else dict(model.tags)

    def close(self) -> None:
        """The store is closed by who opened it."""

    def _model(self, name: str) -> Any:
        store = self._store()
        return _known(store, lambda: store.models.get_registered_model(name))


def _reading(store: Store) -> AbstractContextManager[None]:
    """A server is asked every second, beside threads that print; it says nothing itself."""
    return spoken(store.uri, silent=not store.uri.startswith("http"))


def _all(search: Callable[..., Any], wanted: str | None) -> list[Any]:
    found: list[Any] = []
    page = None
    while True:
        some = search(filter_string=wanted, max_results=_PAGE, page_token=page)
        found += some
        page = some.token
        if not page:
            return found


def _row(found: Any, held: dict[str, int]) -> Row:
    number = int(found.version)
    pointing = tuple(sorted(alias for alias, held_by in held.items() if held_by == number))
    return Row(number, int(found.creation_timestamp), dict(found.tags), pointing)


def _known(store: Store, ask: Callable[[], Any]) -> Any:
    """An answer; None where MLflow knows no such thing."""
    try:
        with _reading(store):
            return ask()
    except RecipeError as error:
        if getattr(error.__cause__, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
