"""(No situation) Batches that wait until there are enough to write for, and what was written."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.engine.items import moved


class Window:
    """Batches that wait; checkpoints hold them.

    Example:
        >>> window, other = Window(), Window()
        >>> window.add(Batch(torch.zeros(2, 1), ids=torch.tensor([3, 4])))
        >>> other.load_state_dict(window.state_dict())
        >>> [batch.ids.tolist() for batch in other.take(torch.device("cpu"))], len(other)
        ([[3, 4]], 0)
    """

    def __init__(self) -> None:
        self._batches: list[Batch] = []

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        """Let one more wait."""
        self._batches.append(batch)

    def take(self, place: torch.device) -> list[Batch]:
        """All of them, on ``place``; none waits any more."""
        taken, self._batches = self._batches, []
        return [moved(batch, place) for batch in taken]

    def state_dict(self) -> dict[str, Any]:
        """Their tensors."""
        return {"batches": [as_plain(batch) for batch in self._batches]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self._batches = [Batch(**batch) for batch in state_dict["batches"]]


@dataclass(frozen=True)
class Wrote:
    """One window: what the student wrote for it, and the updates that were made of it.

    Attributes:
        updates: All that were made before.
        rows: Answers that were written.
        tokens: Of these answers.
        ended: Answers that came to an end, and were not cut off.
        data: Rows whose answer was the data's.
        learnt: Updates that the window gave.
        oldest: The largest staleness among them: updates since the text was written.
    """

    updates: int
    rows: int
    tokens: int
    ended: int
    data: int
    learnt: int = 0
    oldest: int = 0


class History:
    """What was written when, and how old it was when it was learnt from; checkpoints hold it.

    Args:
        size: So many of the latest windows are remembered.
    """

    def __init__(self, size: int = 10_000):
        self.updates, self._size = 0, size
        self._windows: list[Wrote] = []

    @property
    def windows(self) -> Sequence[Wrote]:
        """The windows, in order."""
        return tuple(self._windows)

    def wrote(self, *, rows: int, tokens: int, ended: int, data: int) -> None:
        """Remember a new window."""
        self._windows.append(Wrote(self.updates, rows, tokens, ended, data))
        del self._windows[: -self._size]

    def learnt(self, age: int) -> None:
        """Count one update, from text that was written ``age`` updates before."""
        self.updates += 1
        last = self._windows[-1]
        self._windows[-1] = replace(last, learnt=last.learnt + 1, oldest=max(last.oldest, age))

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain numbers."""
        rows = [[getattr(each, f.name) for f in fields(Wrote)] for each in self._windows]
        return {"updates": self.updates, "windows": rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self.updates = state_dict["updates"]
        self._windows = [Wrote(*row) for row in state_dict["windows"]]


def as_plain(batch: Batch) -> dict[str, Any]:
    """A batch as its fields, which load without code."""
    inputs = batch.inputs
    return {
        "inputs": inputs if isinstance(inputs, torch.Tensor) else dict(inputs),
        "targets": batch.targets,
        "mask": batch.mask,
        "ids": batch.ids,
        "view": batch.view,
        "variant": batch.variant,
    }
