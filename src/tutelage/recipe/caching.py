"""The teacher's answers kept on disk, as a recipe's ``teacher.cache`` says."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.core.errors import RecipeError, TutelageError
from tutelage.core.outputs import Answers
from tutelage.evaluation.language import reads_tokens
from tutelage.models import Frozen
from tutelage.recipe.arms import Desk
from tutelage.recipe.equipment import loader, machine
from tutelage.recipe.kept import fixed_views
from tutelage.recipe.plan import Given, Plan, load_data
from tutelage.recipe.reading import Data
from tutelage.recipe.remote import facts_of_text, remote_of, spent_told
from tutelage.recipe.sections import Cache, Recipe
from tutelage.recipe.store import cache_folder, content_key
from tutelage.recipe.teaching import teach
from tutelage.recipe.trying import planned
from tutelage.recipe.validated import recipe_from
from tutelage.recipe.ways import Batches
from tutelage.teachers import Cached, Filled, teacher_hash
from tutelage.teachers.remote import RemoteTeacher


@dataclass(frozen=True)
class Built:
    """A cache that was built ahead.

    Attributes:
        folder: Where it lies.
        filled: What is in it.
        views: Views of each example.
    """

    folder: Path
    filled: Filled
    views: int


def answers(made: Plan, teacher: Frozen, desk: Desk) -> AbstractContextManager[Answers]:
    """Who answers the student: the teacher, or its cache with the teacher behind it."""
    if made.cache is None:
        return nullcontext(teacher)
    return _kept(made, made.cache, teacher, desk)


@contextmanager
def _kept(made: Plan, cache: Cache, teacher: Frozen, desk: Desk) -> Iterator[Cached]:
    with (
        live(made, teacher, desk) as behind,
        opened(made, cache, behind, batches(made)) as cached,
    ):
        desk.say(f"answers of the teacher are kept in {cached.folder}")
        yield cached


@contextmanager
def live(made: Plan, teacher: Frozen, desk: Desk) -> Iterator[Answers]:
    """Who is asked for what is not kept yet: the teacher's network, or its server."""
    server = made.teacher.server
    if server is None:
        yield teacher
        return
    with remote_of(server, *facts_of_text(made.splits.train)) as behind:
        try:
            yield behind
        finally:
            desk.say(spent_told(server, behind.spent))


def batches(made: Plan) -> Batches:
    """The examples that the student sees, in the views whose answers are kept."""
    return loader(made.splits.train, made.train, 0, fixed=fixed_views(made.cache))


def opened(made: Plan, cache: Cache, teacher: Answers, source: Batches) -> Cached:
    """The cache of a plan."""
    kept = {"form", "precision", "features"} | ({"k", "draws"} if cache.form == "top" else set())
    form: dict[str, Any] = cache.model_dump(include=kept)
    form["compute"] = made.train.precision
    if reads_tokens(source.examples):  # rows are trimmed to the longest of a batch
        form["length"] = source.examples.example_shape[0]
    if isinstance(teacher, RemoteTeacher):
        name, form["classes"] = teacher.name, teacher.classes
    else:
        name = teacher_hash(teacher)
    if cache.folder is None:
        key = content_key(name, source.identity(), form)
        folder = cache_folder() / "answers" / key
    else:
        folder = Path(cache.folder)
    try:
        return Cached(teacher, folder, source, name=name, **form)
    except TutelageError as error:
        raise type(error)(f"teacher.cache: {error}") from error


def build(
    data: Data, out: Path | None, *, console: Console, told: Callable[[int, int], None]
) -> Built:
    """Ask a recipe's teacher for all answers that its students will need.

    A teacher that is still to be trained is trained first, and kept for the runs to come.

    Args:
        data: The recipe as plain data, with ``teacher.cache``.
        out: The cache's folder, instead of ``teacher.cache.folder``.
        console: Where progress is told.
        told: Called with the answers gone through, and how many there are.

    Raises:
        RecipeError: The recipe is wrong, or asks for no cache.
        DataError: The folder holds other answers, or somebody writes there.
    """
    recipe = _with_folder(recipe_from(data), out)
    whole = load_data(recipe)
    made = planned(recipe, Given(whole))
    assert made.cache is not None
    desk = Desk(console)
    teacher = teach(made, whole, desk).model
    teacher.to(machine(made.train).place)
    if made.train.channels_last:
        teacher.observed.use_channels_last()
    source = batches(made)
    with (
        live(made, teacher, desk) as behind,
        opened(made, made.cache, behind, source) as cached,
    ):
        filled = cached.fill(source.in_order(), told)
        return Built(cached.folder, filled, source.views or 1)


def notes(made: Plan) -> list[str]:
    """What a reader of the report must know of the cache."""
    cache = made.cache
    if cache is None:
        return []
    kept = "all logits" if cache.form == "dense" else f"the {cache.k} likeliest classes"
    views = f"{cache.views or 1} fixed views" if made.train.augment else "the one view"
    return [
        f"The teacher answered once to {views} of each example ({kept} in {cache.precision}); "
        "students of all seeds learn from the same ones."
    ]


def _with_folder(recipe: Recipe, out: Path | None) -> Recipe:
    if recipe.teacher.cache is None:
        raise RecipeError(
            "teacher.cache: it is missing, so there is nothing to build: write 'cache: {views: 4}' "
            "below teacher, or --set teacher.cache.views=4."
        )
    if out is None:
        return recipe
    cache = recipe.teacher.cache.model_copy(update={"folder": str(out)})
    teacher = recipe.teacher.model_copy(update={"cache": cache})
    return recipe.model_copy(update={"teacher": teacher})
