"""Options of registered names, checked against their signatures: the signature is the schema."""

import inspect
import json
import types
import typing
from collections.abc import Callable, Collection
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    ValidationError,
    create_model,
)

from tutelage.core import registry
from tutelage.core.errors import RecipeError, TutelageError, suggest
from tutelage.recipe.sections import Named, one_line


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
    for name in named.options:
        if name not in options:
            value = named.options[name]
            raise RecipeError(
                f"{key}.{named.name}.{name}: {kind} {named.name!r} has no such option "
                f"(its value: {value!r}). {suggest(name, options)}"
            )
    model = _model(maker, options)
    try:
        made = model.model_validate_json(json.dumps(named.options))
    except ValidationError as error:
        raise RecipeError(one_line(error, model, f"{key}.{named.name}")) from error
    return {name: getattr(made, name) for name in named.options}


def build(kind: str, named: Named, key: str, **given: Any) -> Any:
    """Make what ``named`` says; any complaint of its own is told with the recipe's key."""
    options = checked(kind, named, key, given)
    try:
        return registry.build(kind, named.name, options, **given)
    except TutelageError as error:
        raise type(error)(f"{key}.{named.name}: {error}") from error
    except (ValueError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"{key}.{named.name}: {first}") from error


def _model(maker: Callable[..., Any], options: dict[str, inspect.Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, parameter in options.items():
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
