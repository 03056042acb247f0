"""``objective: [linear_head]``: both networks stop before their heads while the student learns."""

from collections.abc import Sequence

from tutelage.core.outputs import Answers
from tutelage.models import Frozen, Observed
from tutelage.models.headless import with_head, without_head
from tutelage.recipe.sections import Named, Recipe

NAME = "linear_head"
_OURS = {"student": "head:in", "student_head": "head"}
_THEIRS = {"teacher": "head:in", "teacher_head": "head"}


def is_headless(recipe: Recipe) -> bool:
    """Whether nobody wants logits while the student learns: no other term stands beside.

    >>> from tutelage.recipe.validated import recipe_from
    >>> written = {"recipe": 1, "name": "a", "data": {"source": "text"}}
    >>> written |= {"teacher": {"model": "gpt"}, "student": {"model": "gpt"}}
    >>> [is_headless(recipe_from(written | {"objective": o})) for o in (["linear_head"], ["kd"])]
    [True, False]
    """
    return bool(recipe.objective) and all(each.name == NAME for each in recipe.objective)


def with_paths(recipe: Recipe) -> list[Named]:
    """The objectives, where ``linear_head`` has the names of heads that nobody wrote.

    A teacher whose kept answers are sparse has no head to multiply, and is named none.
    """
    cache = recipe.teacher.cache
    sparse = cache is not None and cache.form == "top"
    usual = _OURS if sparse else _OURS | _THEIRS
    return [
        Named(name=each.name, options={**usual, **each.options}) if each.name == NAME else each
        for each in recipe.objective
    ]


def heads_of(written: Sequence[Named]) -> tuple[str, str | None]:
    """Paths of the student's head and of the teacher's, of the first ``linear_head``."""
    options = next(each.options for each in written if each.name == NAME)
    return options["student_head"], options.get("teacher_head")


def learning(student: Observed, head: str) -> Observed:
    """The student that makes no logits while it learns; evaluated it answers as before."""
    return without_head(student, head=head)


def listening(teacher: Answers, head: str | None) -> Answers:
    """The teacher that makes no logits, where it is a live network whose head is borrowed."""
    if head is None or not isinstance(teacher, Frozen):
        return teacher
    return Frozen(without_head(teacher.observed, head=head, always=True))


def whole(student: Observed) -> Observed:
    """The student as it is shipped: with its head."""
    return with_head(student)
