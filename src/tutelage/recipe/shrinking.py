"""A student that begins as its teacher, made smaller: ``student: {model: {shrunk: ...}}``."""

from collections.abc import Callable
from itertools import islice

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, TutelageError, suggest
from tutelage.core.registry import options_of
from tutelage.core.seeds import derive
from tutelage.data.sets import Examples
from tutelage.models import Observed, reader_of
from tutelage.models.shrunk import needs_batches, shrunk
from tutelage.recipe.complaints import short
from tutelage.recipe.sections import Named

NAME = "shrunk"
_LOOKED_AT = 8  # batches of training examples
_ROWS = 16  # of each

Shrink = Callable[[Observed, int], Observed]
"""From a teacher and a seed to the student that begins as it."""


def shrinking(named: Named, train: Examples) -> Shrink:
    """How to make the student; what is looked at are the first training examples.

    Args:
        named: ``shrunk`` with the options of `tutelage.models.shrunk.shrunk`.
        train: Training examples; labels are not read.

    Raises:
        TutelageError: When it is done: an option is wrong, or the teacher cannot be shrunk so.
    """

    def shrink(teacher: Observed, seed: int) -> Observed:
        options = dict(named.options)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(seed, "weights"))
            try:
                _check(options)
                looked_at = _batches(train) if needs_batches(**options) else None
                model = shrunk(teacher.model, looked_at, **options)
            except TutelageError as error:
                raise type(error)(f"student.model: got {short(options)}: {error}") from error
        order = None if teacher.classes is None else teacher.classes.tolist()
        made = Observed(model, intake=teacher.intake, read=reader_of(model), classes=order)
        return made.train()

    return shrink


def _check(options: dict[str, object]) -> None:
    known = [name for name in options_of(shrunk) if name not in ("teacher", "batches")]
    for option in options:
        if option not in known:
            raise RecipeError(f"shrunk has no option {option!r}. {suggest(option, known)}")


def _batches(train: Examples) -> list[Batch]:
    rows = torch.arange(min(len(train), _LOOKED_AT * _ROWS))
    return [train.batch(some) for some in islice(torch.split(rows, _ROWS), _LOOKED_AT)]
