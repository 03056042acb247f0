"""Options of registered names, checked against their signatures: the signature is the schema."""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    ValidationError,
    create_model,
)

from tutelage.core import registry
from tutelage.core.catalogue import card
from tutelage.core.errors import RecipeError, TutelageError, suggest
from tutelage.recipe.complaints import short
from tutelage.recipe.sections import Named


def checked(kind: str, named: Named, key: str, given: Collection[str] = ()) -> dict[str, Any]:
    """The options of ``named``, validated and converted.

    Args:
        kind: The registry's shelf.
        named: Name and options as the recipe has them.
        key: Where in the recipe that is, for messages.
        given: Options that a recipe cannot write because the house gives them.

    Raises:
        RecipeError: One line naming key, value and remedy.
    """
    try:
        maker = registry.get(kind, named.name)
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from error
    options = {k: p for k, p in registry.options_of(maker).items() if k not in given}
    for name, value in named.options.items():
        if name not in options:
            raise RecipeError(
                f"{key}.{named.name}.{name}: {kind} {named.name!r} has no such option "
                f"(its value: {short(value)}). {suggest(name, options)}"
            )
    model = _model(maker, frozenset(given))
    try:
        made = model.model_validate_json(json.dumps(named.options))
    except ValidationError as error:
        raise RecipeError(f"{key}.{named.name}.{_complaint(error, kind, named)}") from error
    return {name: getattr(made, name) for name in named.options}


def build(kind: str, named: Named, key: str, **given: Any) -> Any:
    """Make what ``named`` says; any complaint of its own is told with the recipe's key."""
    options = checked(kind, named, key, given)
    try:
        return registry.build(kind, named.name, options, **given)
    except TutelageError as error:
        raise type(error)(f"{_place(named, key, error)} {hint(named.name)}") from error
    except (ValueError, TypeError, ArithmeticError, RuntimeError, OSError, MemoryError) as error:
        reason = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
        raise RecipeError(
            f"{key}.{named.name}: got {short(named.options)}, which cannot be made ({reason}). "
            f"{hint(named.name)}"
        ) from error


def hint(name: str) -> str:
    """Where to read what a registered name takes."""
    return f"See 'tutelage methods {name}'."


def _place(named: Named, key: str, error: TutelageError) -> str:
    """The maker's own words, after the key of the option that they are about."""
    text = " ".join(str(error).split()).removeprefix(f"{named.name}: ")
    about = [option for option in named.options if re.search(rf"\b{re.escape(option)}\b", text)]
    where = f"{key}.{named.name}" + (f".{about[0]}" if about else "")
    return f"{where}: {text}"


def _complaint(error: ValidationError, kind: str, named: Named) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return f"got {short(named.options)}: {first['msg']}: write it plainly."
    option = str(first["loc"][0])
    if first["type"] == "missing":
        return f"{option}: this option is needed and is not there: add it."
    wanted = card(kind, named.name).options[option]["type"]
    wanted = wanted.replace("Sequence", "list").replace("Mapping", "mapping")
    finite = "a finite " if first["type"] == "finite_number" else ""
    return f"{option}: got {short(named.options[option])}: this should be {finite}{wanted}."


@cache
def _model(maker: Callable[..., Any], given: frozenset[str]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, parameter in registry.options_of(maker).items():
        if name in given:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (_writable(parameter.annotation), default)
    config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    try:
        return create_model(maker.__name__, __config__=config, **fields)
    except PydanticSchemaGenerationError as error:  # a wrong signature is a bug of the house
        raise RuntimeError(
            f"{maker.__qualname__} cannot be written in a recipe: {error}"
        ) from error


def _writable(annotation: Any) -> Any:
    """The part of a union that a recipe can write: ``str | Callable | None`` -> ``str | None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [a for a in typing.get_args(annotation) if not _code(a)]
        return typing.Union[tuple(parts)]  # noqa: UP007  # made at run time
    return annotation


def _code(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return origin is Callable or (isinstance(origin, type) and issubclass(origin, Callable))  # type: ignore[arg-type]
