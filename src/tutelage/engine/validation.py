"""Measuring on validation data while learning: best weights, early stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError, suggest
from tutelage.engine.learner import Learner
from tutelage.engine.machine import agree
from tutelage.engine.options import whole_number
from tutelage.engine.parallel import load_whole_model, whole_model
from tutelage.models.observed import Observed


class Validation:
    """Measures a learner now and then; larger is better.

    Args:
        learner: Whose (averaged) model is measured.
        measure: Accuracy, say, of a model on validation data; the model is in eval mode, and no
            gradient is kept.
        every: Items between two measurements; one more is made at the end.
        keep: ``best`` ends the run with the weights that measured best, ``last`` with the last.
        patience: Measurements without a better one after which the run ends; None: never.
    """

    def __init__(
        self,
        learner: Learner,
        measure: Callable[[Observed], float],
        *,
        every: int,
        keep: Literal["best", "last"] = "last",
        patience: int | None = None,
    ):
        if keep not in ("best", "last"):
            raise RecipeError(
                f"validation: keep must be 'best' or 'last', got {keep!r}. "
                f"{suggest(str(keep), ('best', 'last'))}"
            )
        self._learner, self._measure, self._keep = learner, measure, keep
        self._every = whole_number(every, "validation: every")
        self._patience = (
            None if patience is None else whole_number(patience, "validation: patience")
        )
        self.history: list[tuple[int, float]] = []
        self._best: dict[str, Tensor] = {}
        self.best_step, self.best_value = 0, float("-inf")

    def due(self, step: int, steps: int) -> bool:
        """Whether to measure after ``step`` items."""
        return step % self._every == 0 or step == steps

    def look(self, step: int) -> tuple[float, bool]:
        """Measure now: the value, and whether it is the best one."""
        with self._learner.averaged() as model, _at_rest(model):
            place = next(model.parameters()).device
            # Every process measures (sharded models need all of them); one of them decides.
            value = agree(float(self._measure(model)), place)
            better = value > self.best_value
            if better:
                self.best_step, self.best_value = step, value
                if self._keep == "best":
                    self._best = whole_model(model)
        self.history.append((step, value))
        return value, better

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        since = [step for step, _ in self.history if step > self.best_step]
        return self._patience is not None and len(since) >= self._patience

    def settle(self) -> None:
        """Put the kept weights into the model, at the end of the run."""
        if self._keep == "best" and self._best:
            load_whole_model(self._learner.model, self._best)

    def state_dict(self) -> dict[str, Any]:
        """History and best weights."""
        return {
            "history": [list(pair) for pair in self.history],
            "best": self._best,
            "best_step": self.best_step,
            "best_value": self.best_value,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self.history = [(step, value) for step, value in state_dict["history"]]
        self._best = state_dict["best"]
        self.best_step, self.best_value = state_dict["best_step"], state_dict["best_value"]


@contextmanager
def _at_rest(model: Observed) -> Iterator[None]:
    """Eval mode without gradients inside, whatever the measure does; as it was afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
