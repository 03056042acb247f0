"""Says plainly when an objective that compares examples sees only a part of them."""

import warnings

from tutelage.engine.machine import rank
from tutelage.engine.setting import AbstractSetting, held_modules
from tutelage.objectives.base import AbstractObjective, Sum, Weighted


class BatchwiseWarning(UserWarning):
    """A batchwise objective sees a part of each batch, and another loss than for the whole."""


def batchwise_names(setting: AbstractSetting[object]) -> list[str]:
    """Names of the objectives in ``setting`` whose loss for an example depends on the others."""
    found = [
        str(getattr(module, "name", type(module).__name__))
        for held in held_modules(setting)
        for module in held.modules()
        if isinstance(module, AbstractObjective)
        and module.batchwise
        and not isinstance(module, (Sum, Weighted))
    ]
    return sorted(set(found))


def warn_of_parts(
    setting: AbstractSetting[object], *, whole: int, part: int, processes: int, accumulate: int
) -> None:
    """One warning, from the first process: which objectives, and how many examples each sees."""
    names = batchwise_names(setting)
    if not names or rank() != 0:
        return
    warnings.warn(
        f"{', '.join(names)} compares the examples of a batch with each other, and sees {part} of "
        f"the {whole} at a time (processes: {processes}, accumulate: {accumulate}); the others "
        "are not gathered, so its loss is not that of the whole batch: make batches larger, or "
        "set accumulate to 1 and parallel to none.",
        BatchwiseWarning,
        stacklevel=2,
    )
