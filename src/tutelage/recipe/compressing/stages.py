"""The stages that a recipe's ``compress.ways`` names, with their options and their healing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import ValidationError

import tutelage.compression  # noqa: F401  # its names on their shelf
from tutelage.core import registry
from tutelage.core.errors import RecipeError, suggest
from tutelage.recipe import schema
from tutelage.recipe.complaints import one_line, short
from tutelage.recipe.sections import Compress, Named, Train

SHELF = "compression"
SHORT: Mapping[str, str] = {"int8": "int8_static", "qat": "int8_learned"}
"""What recipes may write in place of a registered name."""
Kind = Literal["network", "file", "taught"]
_HANDS: Mapping[Kind, set[str]] = {
    "network": {"model", "check"},
    "file": {"source", "target", "calibration", "check", "replace"},
    "taught": {"model", "calibration"},
}
"""What a registered function of each kind is handed; all else in its signature are options."""


@dataclass(frozen=True)
class Stage:
    """One stage of a way.

    Attributes:
        written: What the recipe calls it.
        name: What it is registered as.
        options: As its signature wants them.
        heal: How it is trained afterwards; None where it is not.
        key: Its place in the recipe, for messages.
    """

    written: str
    name: str
    options: Mapping[str, Any]
    heal: Train | None
    key: str

    @property
    def act(self) -> Callable[..., Any]:
        """The registered function."""
        return registry.get(SHELF, self.name)

    @property
    def kind(self) -> Kind:
        """What it makes of what."""
        found = kind_of(self.name)
        assert found is not None
        return found

    @property
    def makes_file(self) -> bool:
        """Whether a file comes out of it that nothing else can be done to."""
        return self.kind != "network"

    def option(self, name: str) -> Any:
        """An option's value, or its default; None where there is no such option."""
        known = registry.options_of(self.act)
        return self.options.get(name, known[name].default) if name in known else None

    @property
    def content(self) -> str:
        """All that its result follows from, but for what it is applied to."""
        heal = None if self.heal is None else self.heal.model_dump()
        return json.dumps([self.name, dict(self.options), heal], sort_keys=True)


def kind_of(name: str) -> Kind | None:
    """What a registered compression is, by its signature; None for one that recipes cannot name.

    ``network``: a smaller network of a network, to be healed or not. ``file``: a file of a file.
    ``taught``: a network that learns what its file will be, and is always healed.

    Example:
        >>> kind_of("prune"), kind_of("int8_static")
        ('network', 'file')
    """
    known = set(registry.options_of(registry.get(SHELF, name)))
    if {"source", "target", "check"} <= known:
        return "file"
    if {"model", "check"} <= known:
        return "network"
    return "taught" if {"model", "calibration"} <= known else None


def usable() -> list[str]:
    """Compressions that a recipe can name."""
    return [name for name in registry.names(SHELF) if kind_of(name) is not None]


def stages_of(compress: Compress, train: Train) -> dict[str, tuple[Stage, ...]]:
    """The stages of every way, in order.

    Args:
        compress: The recipe's section.
        train: What ``heal`` is merged over.

    Raises:
        RecipeError: One line naming key, value and remedy.
    """
    found = {}
    for way, written in compress.ways.items():
        place = f"compress.ways.{way}"
        if not written:
            raise RecipeError(f"{place}: got []: name at least one stage, int8 for instance.")
        stages = tuple(_stage(each, f"{place}.{i}", train) for i, each in enumerate(written))
        for stage, later in pairwise(stages):
            if stage.makes_file:
                raise RecipeError(
                    f"{stage.key}: {stage.written} makes the file that is shipped, and "
                    f"{later.written} comes after it: put it last."
                )
        found[way] = stages
    return found


def _stage(written: Named, key: str, train: Train) -> Stage:
    name, options = SHORT.get(written.name, written.name), dict(written.options)
    if name not in usable():
        near = suggest(written.name, [*usable(), *SHORT])
        raise RecipeError(f"{key}: there is no compression called {written.name!r}. {near}")
    heal, kind = options.pop("heal", None), kind_of(name)
    assert kind is not None
    checked = schema.checked(SHELF, Named(name=name, options=options), key, _HANDS[kind])
    place = f"{key}.{written.name}"
    if heal is not None and kind == "file":
        raise RecipeError(
            f"{place}.heal: got {short(heal)}, and {written.name} trains nothing: give heal to the "
            "stage before it."
        )
    if heal is None and kind == "taught":
        raise RecipeError(
            f"{place}: {written.name} is learned, and nothing says how: write heal: {{epochs: 4}}."
        )
    healing = None if heal is None else _heal(heal, f"{place}.heal", train)
    return Stage(written.name, name, checked, healing, place)


def _heal(written: Any, key: str, train: Train) -> Train:
    if not isinstance(written, dict):
        raise RecipeError(f"{key}: got {short(written)}: write keys of train, like {{epochs: 4}}.")
    try:
        return Train.model_validate_json(json.dumps({**train.model_dump(), **written}))
    except ValidationError as error:
        raise RecipeError(f"{key}.{one_line(error, Train)}") from error
