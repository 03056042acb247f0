"""Stops a run whose loss is no longer a number, and says which term and since when."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.core.errors import Diverged


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
        values = torch.stack([t.float() for _, _, terms in seen for t in terms.values()])
        if bool(torch.isfinite(values).all()):
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
