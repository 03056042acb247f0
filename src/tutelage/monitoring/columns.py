"""What is looked at in a sample: named columns of inputs and of answers, and the classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_CLASSES = 30
"""Beyond, the probability of each class is not a column of its own."""

INPUTS, PREDICTIONS = "inputs", "predictions"


@dataclass(frozen=True)
class Columns:
    """Numbers of each example by name.

    Attributes:
        names: Of the columns.
        causes: What each tells of: ``inputs`` or ``predictions``.
        values: ``(N, J)`` of float32.
        classes: Predicted class of each example, ``(N,)``.
        count: How many classes there are.
    """

    names: tuple[str, ...]
    causes: tuple[str, ...]
    values: Array
    classes: Array
    count: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def inputs(self) -> Array:
        """Columns that tell of inputs, ``(N, F)``."""
        return self.values[:, [cause == INPUTS for cause in self.causes]]


def probabilities(logits: Array) -> Array:
    """Softmax of each row, ``(N, C)``.

    >>> probabilities(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def entropy(shares: Array) -> Array:
    """Entropy of each row of probabilities, in nats, ``(N,)``.

    >>> round(float(entropy(np.array([[0.5, 0.5]]))[0]), 4)
    0.6931
    """
    return np.asarray(-(shares * np.log(np.maximum(shares, 1e-30))).sum(1))


def columns_of(
    summaries: Array, logits: Array, features: tuple[str, ...], labels: tuple[str, ...] = ()
) -> Columns:
    """Columns of a sample.

    Args:
        summaries: ``(N, F)``, see `tutelage.deployment.traffic.summary`.
        logits: ``(N, C)``.
        features: Names of the summaries' columns.
        labels: Names of the classes; none where they are not known.
    """
    shares = probabilities(logits.astype(np.float64))
    count = logits.shape[1]
    names = labels or tuple(f"class {number}" for number in range(count))
    found = {"confidence": shares.max(1), "entropy": entropy(shares)}
    if count <= MOST_CLASSES:
        found |= {f"probability of {name}": shares[:, place] for place, name in enumerate(names)}
    answers = np.stack(list(found.values()), axis=1).astype(np.float32)
    return Columns(
        (*features, *found),
        (*(INPUTS for _ in features), *(PREDICTIONS for _ in found)),
        np.concatenate([summaries.astype(np.float32), answers], axis=1),
        shares.argmax(1),
        count,
    )
