"""What each file of a sweep costs and knows: bytes, time, accuracy on validation. No test data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data.sets import Examples
from tutelage.evaluation import newcombe, onnx_latency, predict, wilson
from tutelage.evaluation.costs.latency import Effort
from tutelage.evaluation.costs.parameters import file_bytes
from tutelage.evaluation.metrics import right
from tutelage.evaluation.onnx_model import OnnxModel

EFFORT = Effort(warmup=20, calls=2000, seconds=30.0)
"""More calls than a report's: a file is chosen by its p99, and 300 calls tell little of that."""


def points_of(
    files: Mapping[str, Path], student: str, validation: Examples
) -> list[dict[str, Any]]:
    """One point a file, in order.

    Args:
        files: By name.
        student: The name of the one that all others are held against.
        validation: On what their accuracy is measured.

    Returns:
        Of each: ``name``, ``bytes``, ``parameters``, ``latency_ms`` (one example on one thread,
        all files in turns), ``accuracy`` with Wilson's interval, ``accuracy_drop`` (the student's
        accuracy minus its own, Newcombe's paired interval), and whether it is ``dominated``:
        another is at least as good in bytes, p99 and accuracy, and better in one of them.
    """
    times = onnx_latency(files, validation.batch(torch.arange(1)), effort=EFFORT)
    hits = {name: _hits(OnnxModel(path), validation) for name, path in files.items()}
    found = [
        {
            "name": name,
            "bytes": file_bytes(path),
            "parameters": OnnxModel(path).parameters,
            "latency_ms": times[name].as_dict(),
            "accuracy": wilson(int(hits[name].sum()), len(hits[name])).as_dict(),
            "accuracy_drop": difference(hits[student], hits[name]),
        }
        for name, path in files.items()
    ]
    return [{**one, "dominated": _dominated(one, found)} for one in found]


def difference(first: Tensor, second: Tensor) -> dict[str, Any]:
    """One accuracy minus another on the same examples, from which of these are answered rightly."""
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return newcombe(*(int(count.sum()) for count in counts)).as_dict()


def figure(point: Mapping[str, Any], name: str) -> float:
    """A point's ``bytes``, ``p99_ms``, ``accuracy_drop`` or ``accuracy`` as one number."""
    if name == "p99_ms":
        return float(point["latency_ms"]["p99"])
    if name == "bytes":
        return float(point["bytes"])
    return float(point[name]["mean"])


def _hits(model: OnnxModel, examples: Examples) -> Tensor:
    found = predict(model, examples)
    known = found.targets >= 0
    return right(found.logits[known], found.targets[known])


def _dominated(one: Mapping[str, Any], others: list[dict[str, Any]]) -> bool:
    mine = _costs(one)
    return any(
        theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
        for theirs in map(_costs, others)
    )


def _costs(point: Mapping[str, Any]) -> tuple[float, float, float]:
    return figure(point, "bytes"), figure(point, "p99_ms"), -figure(point, "accuracy")
