"""What else models that write are asked: the section ``evaluation``, and its tasks from files."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, PositiveInt, model_serializer

from tutelage.core.errors import RecipeError, TutelageError, suggest
from tutelage.evaluation.language.asking import Asked, LocalTask
from tutelage.evaluation.language.harness_files import harness_task
from tutelage.evaluation.language.tasks import load_task
from tutelage.recipe.complaints import short
from tutelage.recipe.named import Section

_HARNESS = ("lm_eval", "limit")


class TaskSource(Section):
    """Where a task comes from: ``tasks/a.yaml``, or ``{lm_eval: FILE_OR_NAME, limit: 100}``."""

    path: str | None = None
    lm_eval: str | None = None
    limit: PositiveInt | None = None

    @model_serializer
    def _plain(self) -> Any:
        if self.path is not None:
            return self.path
        limit = {} if self.limit is None else {"limit": self.limit}
        return {"lm_eval": self.lm_eval, **limit}


def _source(value: Any) -> Any:
    if isinstance(value, str):
        return {"path": value}
    if not isinstance(value, dict):
        raise ValueError(
            f"got {short(value)}: name a task's file, or write {{lm_eval: FILE_OR_NAME}}"
        )
    for key in value:
        if key not in _HARNESS:
            raise ValueError(
                f"got {short(value)}: a task has no key {key!r}. "
                f"{suggest(str(key), _HARNESS)}".rstrip(".")
            )
    if not isinstance(value.get("lm_eval"), str):
        raise ValueError(f"got {short(value)}: write {{lm_eval: FILE_OR_NAME, limit: 100}}")
    return value


class TextEvaluation(Section):
    """What else models that write are asked, where the data is text.

    Attributes:
        tasks: Files of `tutelage.evaluation.language.tasks`, or ``{lm_eval: FILE_OR_NAME,
            limit: 100}`` for tasks of the LM Evaluation Harness; asked beside the test text.
        speed: Whether writing is timed; null for: where ``report`` has the part ``cost``.
    """

    tasks: list[Annotated[TaskSource, BeforeValidator(_source)]] = []  # noqa: RUF012
    speed: bool | None = None


def tasks_of(sources: Sequence[TaskSource]) -> list[Asked]:
    """The tasks, read from their files.

    Raises:
        RecipeError: One line naming the key: a file is not there or is wrong, or two tasks share
            a name.
    """
    found: dict[str, Asked] = {}
    for index, source in enumerate(sources):
        key = f"evaluation.tasks.{index}"
        try:
            task = _task(source)
        except TutelageError as error:
            raise type(error)(f"{key}: {error}") from error
        if task.name in found:
            raise RecipeError(
                f"{key}: there is a task {task.name!r} already: give this one another name."
            )
        found[task.name] = task
    return list(found.values())


def text_evaluation(recipe: Mapping[str, Any]) -> TextEvaluation:
    """The section of a recipe that is plain data already."""
    return TextEvaluation.model_validate(recipe["evaluation"])


def _task(source: TaskSource) -> Asked:
    if source.lm_eval is not None:
        return harness_task(source.lm_eval, source.limit)
    return LocalTask(load_task(str(source.path)))
