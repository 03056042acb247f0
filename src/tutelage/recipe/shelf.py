"""Data that is named in words, loaded once however often it is named."""

import json
from pathlib import Path

from tutelage.core.errors import RecipeError
from tutelage.data import Splits
from tutelage.recipe import schema
from tutelage.recipe.reading import Data, read
from tutelage.recipe.sections import Named
from tutelage.recipe.validated import recipe_from


class Shelf:
    """Data sources, each loaded once however often it is named."""

    def __init__(self) -> None:
        self._loaded: dict[str, Splits] = {}

    def take(self, source: Named, key: str) -> Splits:
        """The splits of a source; its test set is sealed until it is opened."""
        name = json.dumps([source.name, source.options], sort_keys=True)
        if name not in self._loaded:
            self._loaded[name] = schema.build("data", source, key)
        return self._loaded[name]


def data_of(words: str | Data, shelf: Shelf) -> Splits:
    """The data that is named: a source, its mapping, or the data of a recipe or run.

    Raises:
        RecipeError: It is none of these.
    """
    if isinstance(words, str) and Path(words).exists():
        path = Path(words)
        content = read(path / "resolved.yaml" if path.is_dir() else path)
        words = content if "recipe" not in content else recipe_from(content).data.source  # type: ignore[assignment]
    if isinstance(words, Named):
        source = words
    elif isinstance(words, str):
        source = Named(name=words)
    else:
        if len(words) != 1:
            raise RecipeError(
                f"data: got the names {', '.join(map(str, words))}: give one source with its "
                "options inside: {npz: {path: FILE}}."
            )
        ((name, options),) = words.items()
        source = Named(name=name, options=options or {})
    try:
        return shelf.take(source, "data")
    except RecipeError as error:
        raise RecipeError(
            f"{error} Or name a recipe or a run folder whose data is meant."
        ) from error
