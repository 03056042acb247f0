"""Rows of a traffic log, made from what was asked and answered."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.deployment.summaries import summary, summary_names
from tutelage.deployment.traffic_chunks import KEPT, Chunk

Array = NDArray[Any]
Call = dict[str, Any]
"""One call of `TrafficLog.append`: ``inputs``, ``logits``, ``when``, ``seconds``, ``shadow``."""


def alike(taken: list[Call]) -> list[list[Call]]:
    """Neighbours whose arrays have the same shapes, to be summed up at once."""
    groups: list[list[Call]] = []
    before: Any = None
    for each in taken:
        shapes = {name: (value.shape[1:], value.dtype) for name, value in each["inputs"].items()}
        form = (shapes, each["logits"].shape[1:])
        if form != before:
            groups.append([])
        groups[-1].append(each)
        before = form
    return groups


def rows_of(group: list[Call], version: str, dice: Any, keep: float) -> Chunk:
    """Calls of the same shapes as rows; a share ``keep`` of their inputs is kept.

    Raises:
        DataError: There are not as many inputs as answers.
    """
    inputs = {
        name: np.concatenate([each["inputs"][name] for each in group])
        for name in group[0]["inputs"]
    }
    logits = np.concatenate([each["logits"] for each in group])
    counts = [len(each["logits"]) for each in group]
    steps = np.concatenate([np.arange(count) * 1e-6 for count in counts])
    kept = np.flatnonzero(dice.random(len(logits)) < keep)
    summaries = summary(inputs)
    if len(summaries) != len(logits):
        raise DataError(f"{len(summaries)} inputs and {len(logits)} answers were given.")
    columns = {
        "times": np.repeat([each["when"] for each in group], counts) + steps,
        "summaries": summaries,
        "logits": logits,
        "seconds": np.repeat([each["seconds"] for each in group], counts).astype(np.float32),
        "shadow": np.concatenate([_shadow(each) for each in group]),
        "kept_rows": kept,
        **{KEPT + name: value[kept] for name, value in inputs.items()},
    }
    return Chunk(columns, version, summary_names({k: v[:1] for k, v in inputs.items()}))


def _shadow(each: Call) -> Array:
    given = each["shadow"]
    if given is None or given.shape != each["logits"].shape:
        return np.full_like(each["logits"], np.nan)
    return np.asarray(given)
