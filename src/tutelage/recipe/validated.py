"""From plain data to a recipe, or one line that says what is wrong."""

import json

from pydantic import ValidationError

from tutelage.core.errors import RecipeError
from tutelage.recipe.complaints import one_line, refuse_halves
from tutelage.recipe.reading import Data
from tutelage.recipe.remote import with_server
from tutelage.recipe.sections import Recipe
from tutelage.recipe.ways import OF_THEIR_OWN, WRITING


def recipe_from(data: Data) -> Recipe:
    """A recipe from plain data; partial ``train`` sections are merged over the recipe's own.

    Raises:
        RecipeError: One line with key, value and remedy.
    """
    if "recipe" not in data:
        raise RecipeError("recipe: its version is missing: write 'recipe: 1' in the first line.")
    try:
        refuse_halves(data, [])
        recipe = with_server(Recipe.model_validate_json(json.dumps(_merged(data))))
        _check_objective(recipe)
        return recipe
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise RecipeError(one_line(error, Recipe)) from error
        raise RecipeError(
            f"a recipe holds plain values only (words, numbers, lists, mappings): {error}."
        ) from error


def _check_objective(recipe: Recipe) -> None:
    """There is one, but beside a setting that has a loss of its own."""
    own, written = recipe.setting.name in OF_THEIR_OWN, [each.name for each in recipe.objective]
    if own and written:
        raise RecipeError(
            f"objective: got {written}, and the setting {recipe.setting.name} has a loss of its "
            "own: leave it out."
        )
    if not (own or written):
        if "objective" in recipe.model_fields_set:
            raise RecipeError("objective: got []: write at least one entry.")
        raise RecipeError("objective: this key is needed and is not there: add it.")
    kept = recipe.teacher.cache is not None and recipe.teacher.server is None
    if kept and recipe.setting.name in WRITING:
        raise RecipeError(
            f"teacher.cache: in the setting {recipe.setting.name} the student's text is new each "
            "time, and a cache knows the data's alone: leave it out."
        )


def _merged(data: Data) -> Data:
    """The same with the sections that go over ``train`` written out."""
    whole = dict(data)
    written = whole.get("train")
    common = written if isinstance(written, dict) else {}
    teacher = whole.get("teacher")
    if isinstance(teacher, dict) and isinstance(teacher.get("train"), dict):
        whole["teacher"] = {**teacher, "train": {**common, **teacher["train"]}}
    baseline = whole.get("baseline", True)
    if isinstance(baseline, bool):
        whole["baseline"] = common if baseline else None
    elif isinstance(baseline, dict):
        whole["baseline"] = {**common, **baseline}
    return whole
