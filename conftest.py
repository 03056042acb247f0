"""For tests and doctests alike: what one of them registers is gone before the next."""

import sys
from collections.abc import Iterator

import pytest

from tutelage.core import registry


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    before = {kind: set(shelf) for kind, shelf in registry._shelves.items()}
    yield
    for kind, shelf in list(registry._shelves.items()):
        for name in set(shelf) - before.get(kind, set()):
            if not _of_the_house(shelf[name]):
                del shelf[name]
        if not shelf:
            del registry._shelves[kind]


def _of_the_house(made: object) -> bool:
    """Whether a room brought it, imported meanwhile, and not a doctest or a test."""
    module = sys.modules.get(getattr(made, "__module__", ""))
    name = getattr(made, "__name__", "")
    return module is not None and module.__name__.startswith("tutelage.") and hasattr(module, name)
