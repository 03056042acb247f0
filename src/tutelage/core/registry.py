"""Short names for recipes: ``{kd: {temperature: 4}}`` becomes ``SoftTarget(temperature=4)``.

A recipe is data, never code: only registered names can be built, no dotted import paths. The
signature of what is registered is the schema of its options, and its docstring their description.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tutelage.core.errors import RecipeError, suggest

_shelves: dict[str, dict[str, Callable[..., Any]]] = {}
_C = TypeVar("_C", bound=Callable[..., Any])


def register(kind: str, name: str) -> Callable[[_C], _C]:
    """Put a class or function on the shelf ``kind`` under ``name``."""

    def put(made: _C) -> _C:
        shelf = _shelves.setdefault(kind, {})
        if name in shelf:
            raise RecipeError(f"{kind} {name!r} is already taken by {shelf[name].__qualname__}.")
        shelf[name] = made
        return made

    return put


def kinds() -> list[str]:
    """All kinds of things that are registered by now."""
    return sorted(_shelves)


def names(kind: str) -> list[str]:
    """All names on the shelf ``kind``."""
    return sorted(_shelves.get(kind, {}))


def get(kind: str, name: str) -> Callable[..., Any]:
    """The class or function that ``register`` put there."""
    shelf = _shelves.get(kind, {})
    if name not in shelf:
        raise RecipeError(f"there is no {kind} called {name!r}. {suggest(name, shelf)}")
    return shelf[name]


def options_of(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of what was registered, by name: annotation and default of each."""
    parameters = inspect.signature(maker, eval_str=True).parameters.values()
    usual = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in parameters if p.kind in usual}


def build(kind: str, name: str, options: Mapping[str, Any] | None = None, **given: Any) -> Any:
    """Make the ``kind`` called ``name``; ``given`` are objects that a recipe cannot write."""
    options = dict(options or {})
    maker = get(kind, name)
    known = options_of(maker)
    allowed = [option for option in known if option not in given]
    for key in options:
        if key not in allowed:
            raise RecipeError(f"{kind} {name!r} has no option {key!r}. {suggest(key, allowed)}")
    for key in allowed:
        if known[key].default is inspect.Parameter.empty and key not in options:
            raise RecipeError(f"{kind} {name!r} needs the option {key!r}.")
    return maker(**options, **given)
