"""What a recipe's ``teacher.cache`` means for views, answers and features."""

from collections.abc import Iterable, Mapping
from typing import Any

from tutelage.core.errors import MissingFeature, RecipeError, TutelageError, suggest
from tutelage.core.outputs import Outputs
from tutelage.core.seeds import derive
from tutelage.recipe.sections import Cache, Recipe
from tutelage.teachers import Form, as_kept


def fixed_views(cache: Cache | None) -> dict[str, int]:
    """The views of all students who learn from one cache: what a loader is given beside its seed.

    They are the same for all seeds, or the cache would serve one student only.
    """
    if cache is None:
        return {}
    return {"views": cache.views or 1, "view_seed": derive(0, "views")}


def as_read(answer: Outputs, cache: Cache | None) -> Outputs:
    """The teacher's answer as the student will get it."""
    if cache is None:
        return answer
    try:
        form = Form(cache.form, cache.k, cache.precision, cache.draws)
        return as_kept(answer, form, answer.features)
    except TutelageError as error:
        raise type(error)(f"teacher.cache: {error}") from error


def check_features(paths: Iterable[str], cache: Cache | None) -> None:
    """Refuse objectives that read features which are not kept."""
    if cache is None:
        return
    for path in paths:
        if path not in cache.features:
            raise MissingFeature(
                f"{path!r} is none of teacher.cache.features: add it there, or leave cache out. "
                f"{suggest(path, cache.features)}"
            )


def check_cache(recipe: Recipe) -> None:
    """What is wrong with a cache by the recipe's words alone.

    Raises:
        RecipeError: Views without end, or candidates that need several caches in one folder.
    """
    cache = recipe.teacher.cache
    if cache is None:
        return
    if recipe.train.augment and cache.views is None:
        raise RecipeError(
            "teacher.cache.views: got null, and train.augment shows a new view in every epoch, so "
            "that no answer would be asked for twice: write views: 4, say."
        )
    tuned: Mapping[str, Any] = recipe.tune.student if recipe.tune else {}
    for key in tuned:
        if cache.folder is not None and key.startswith(("train.augment", "train.precision")):
            raise RecipeError(
                f"tune.student.{key}: each candidate needs answers of its own, and "
                f"teacher.cache.folder is one place, {cache.folder!r}: leave folder out."
            )
