"""Stops a run whose loss or weights are no longer numbers, and says which and since when."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.core.errors import Diverged, RecipeError
from tutelage.core.outputs import Terms
from tutelage.engine.learner import Learner
from tutelage.engine.machine import total
from tutelage.engine.parallel import local


class Guard:
    """Checks every term of every update.

    Args:
        every: Updates between two looks. On a CPU a look costs nothing; on a GPU each one waits
            for the device, so terms are kept there and looked at together.
    """

    def __init__(self, every: int):
        self._every = every
        self._seen: list[tuple[int, str, Mapping[str, Tensor]]] = []

    def watch(self, step: int, name: str, terms: Mapping[str, Tensor]) -> None:
        """Note one update's terms; raises `Diverged` at the latest ``every`` updates later."""
        self._seen.append((step, name, terms))
        if len(self._seen) >= self._every:
            self.look()

    def look(self) -> None:
        """Check all that was noted since the last look."""
        seen, self._seen = self._seen, []
        if not seen:
            return
        values = [value for _, _, terms in seen for value in terms.values()]
        if values[0].is_cpu:  # reading one costs less than an operation
            if all(math.isfinite(value) for value in values):
                return
        elif bool(torch.isfinite(torch.stack([value.float() for value in values])).all()):
            return
        for step, name, terms in seen:
            for key, value in terms.items():
                if not bool(torch.isfinite(value)):
                    others = ", ".join(f"{k} {float(v):.4g}" for k, v in terms.items() if k != key)
                    raise Diverged(
                        f"step {step}, {name}: the term {key!r} is {float(value)}"
                        f"{f' ({others})' if others else ''}: lower the learning rate or its "
                        "weight, set clip, or look for NaN in the inputs."
                    )

    def check_weights(self, step: int, learners: Mapping[str, Learner]) -> None:
        """Check the weights themselves, before they are put away or handed over.

        A finite loss may have a gradient that is not (a square root at 0), which the terms show
        one step too late.
        """
        for name, learner in learners.items():
            values: list[tuple[str, Tensor]] = [
                *learner.model.named_parameters(),
                *learner.helpers.named_parameters(),
            ]
            parts = [local(value.detach()) for _, value in values]
            bad = [float(not bool(torch.isfinite(part).all())) for part in parts]
            # Statistics of BatchNorm, say. A mask of -inf is fine, so only NaN is wrong there.
            buffers = [*learner.model.named_buffers(), *learner.helpers.named_buffers()]
            values += [(path, buffer) for path, buffer in buffers if buffer.is_floating_point()]
            bad += [float(bool(torch.isnan(b).any())) for _, b in values[len(parts) :]]
            device = parts[0].device if parts else torch.device("cpu")
            if total(sum(bad), device) > 0:
                path = next(
                    (path for (path, _), b in zip(values, bad, strict=True) if b), "a weight"
                )
                raise Diverged(
                    f"after step {step} {path!r} of {name} is not finite though its loss is: a "
                    "gradient overflowed; lower the learning rate, or set clip."
                )


def check_terms(terms: Terms, name: str) -> None:
    """Are these terms that one can learn from? Refused in one line where they are not."""
    if not terms:
        raise RecipeError(f"the update {name!r} has no term: its loss must give at least one.")
    for key, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            what = f"of shape {tuple(term.shape)}" if isinstance(term, Tensor) else repr(term)
            raise RecipeError(
                f"the term {key!r} of the update {name!r} must be one number in a tensor (a mean "
                f"over units), and is {what}."
            )
    if not any(term.requires_grad for term in terms.values()):
        raise RecipeError(
            f"no term of the update {name!r} ({', '.join(terms)}) depends on anything that can "
            "learn: is the student detached, or all of it frozen?"
        )
