"""What the tests of hidden states share: texts, and means over tokens by plain loops."""

from typing import Any

import numpy as np
import torch
from objectives_shared import Array, noise

from tutelage.core.batch import Batch

N, T = 3, 5
REAL = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
ANSWERS = np.array([[0, 1, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)
EXAMPLES = np.array([True, False, True])

SEEN: dict[str, tuple[Array | None, Array | None]] = {
    "all": (None, None),
    "padded": (REAL, None),
    "examples": (REAL, EXAMPLES),
    "answers": (REAL, ANSWERS),
    "answers, unpadded": (None, ANSWERS),
}
"""By name: which tokens are real, and the mask."""


def text(
    real: Any = None, mask: Any = None, *, targets: Any = None, positions: Any = None, **more: Any
) -> Batch:
    """A batch of N texts of T tokens."""
    inputs = {"input_ids": torch.from_numpy((7 * noise(N, T)).astype(np.int64) % 11)}
    if real is not None:
        inputs["attention_mask"] = torch.as_tensor(np.asarray(real)).long()
    if positions is not None:
        inputs["position_ids"] = torch.as_tensor(np.asarray(positions))
    inputs |= {name: torch.as_tensor(np.asarray(value)) for name, value in more.items()}
    return Batch(
        inputs,
        targets=None if targets is None else torch.as_tensor(np.asarray(targets)),
        mask=None if mask is None else torch.as_tensor(np.asarray(mask)),
        ids=torch.arange(N),
    )


def mean_over_units(values: Array, real: Any, mask: Any, units: str = "counted") -> float:
    """The mean of one value a token over what counts, by the rule of `hidden.tokens`."""
    rows = [
        [values[n, i] for i in range(values.shape[1]) if real is None or real[n, i]]
        for n in range(len(values))
    ]
    found: list[float] = []
    for n, row in enumerate(rows):
        mean = sum(row) / len(row)
        if mask is None:
            found.append(mean)
        elif mask.ndim == 1:
            found += [mean] if mask[n] else []
        else:
            counted = [i for i in range(values.shape[1]) if mask[n, i]]
            found += [values[n, i] if units == "counted" else mean for i in counted]
    return float(sum(found) / len(found)) if found else 0.0


def sees(n: int, i: int, real: Any, *, causal: bool = False) -> list[int]:
    """Which tokens token i of text n sees."""
    return [j for j in range(T) if (real is None or real[n, j]) and (j <= i or not causal)]
