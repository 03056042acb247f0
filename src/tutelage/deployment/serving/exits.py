"""Which exit answers for an example: `tutelage.evaluation.ExitPolicy`, with NumPy alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.core.errors import PackageError
from tutelage.deployment.manifest import parsed

_MEASURES = ("max_softmax", "entropy")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``(N, C)`` of logits ``(N, C)``, float64.

    >>> softmax(np.array([[0.0, 0.0], [1e4, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    wide = logits.astype(np.float64)
    raised = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: np.ndarray = raised / raised.sum(axis=-1, keepdims=True)
    return shares


@dataclass(frozen=True)
class Exits:
    """At each exit leaves whoever is sure enough; all others at the last one.

    Attributes:
        thresholds: Of each exit but the last, the least certainty; None for nobody.
        measure: ``max_softmax`` or ``entropy`` (one less the share of the largest entropy).

    Example:
        >>> sure, unsure = [9.0, 0.0], [0.1, 0.0]
        >>> Exits((0.8,)).apply([np.array([sure, unsure]), np.zeros((2, 2))]).tolist()
        [[9.0, 0.0], [0.0, 0.0]]
    """

    thresholds: tuple[float | None, ...] = ()
    measure: str = "max_softmax"

    def apply(self, exits: Sequence[np.ndarray]) -> np.ndarray:
        """What is answered ``(N, C)``, of the logits ``(N, C)`` of each exit, the last one last."""
        answer = np.array(exits[-1])
        for threshold, logits in reversed(list(zip(self.thresholds, exits, strict=False))):
            if threshold is not None:
                leaving = self._certainty(logits) >= threshold
                answer[leaving] = logits[leaving]
        return answer

    def _certainty(self, logits: np.ndarray) -> np.ndarray:
        shares = softmax(logits)
        if self.measure == "max_softmax":
            found: np.ndarray = shares.max(axis=-1)
            return found
        logs = np.log(np.where(shares > 0, shares, 1.0))  # 0 log 0 = 0
        found = 1 + (shares * logs).sum(axis=-1) / math.log(logits.shape[-1])
        return found.clip(0, 1)


def read_exits(path: Path, outputs: int) -> Exits:
    """The policy beside a model with several outputs; none where there is one output.

    Args:
        path: ``student.exits.json``, which may be missing where ``outputs`` is 1.
        outputs: How many the ONNX file has.

    Raises:
        PackageError: There is none, or it is of another number of exits.
    """
    if outputs == 1:
        return Exits()
    if not path.is_file():
        raise PackageError(f"the model has {outputs} exits, and there is no {path.name}.")
    found = parsed(path.read_bytes(), path.name)
    thresholds, measure = found.get("thresholds"), found.get("measure", _MEASURES[0])
    good = isinstance(thresholds, list) and all(map(_is_threshold, thresholds))
    if not good or measure not in _MEASURES or found.get("schema") != 1:
        raise PackageError(f"{path.name} is no exit policy of schema 1.")
    if len(thresholds) != outputs - 1:  # type: ignore[arg-type]  # a list by now
        raise PackageError(f"{path.name} is for another number of exits than {outputs}.")
    return Exits(tuple(thresholds), measure)  # type: ignore[arg-type]


def _is_threshold(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    )
