"""What sections of a recipe are made of: names with options, gates, and how they are written."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer

from tutelage.recipe.complaints import short

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Part of a recipe: no key but those declared, no type but the one declared."""

    model_config = _STRICT


class Named(Section):
    """A registered name with its options: ``kd`` or ``{kd: {temperature: 4}}``."""

    name: str
    options: dict[str, Any] = {}

    @model_serializer
    def _plain(self) -> Any:
        return {self.name: self.options} if self.options else self.name


def _named(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        if options is None or isinstance(options, dict):
            return {"name": name, "options": options or {}}
        raise ValueError(
            f"got {short(value)}: {name!r} takes its options as a mapping: write "
            f"{{{name}: {{option: value}}}}"
        )
    if isinstance(value, dict) and value:
        raise ValueError(
            f"got the names {', '.join(map(str, value))}: give one, with its options inside: "
            f"{{{next(iter(value))}: {{option: value}}}}"
        )
    raise ValueError(
        f"got {short(value)}: write a name, or one name with options ({{name: {{...}}}})"
    )


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _asked(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"got {short(value)}: write the threshold as a number, or with how it is judged: "
            "{at_most: number, by: shown}"
        )
    return value


Asked = Annotated[Any, BeforeValidator(_asked)]
Name = Annotated[Named, BeforeValidator(_named)]
Parts = Annotated[list[Name], BeforeValidator(_listed)]
