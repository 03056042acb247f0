"""``reference.safetensors``: how the shipped file answers when all is well; NumPy only.

It holds a few numbers of each example (see `tutelage.deployment.traffic.summary`), no example.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.deployment.summaries import summary, summary_names

REFERENCE = "reference.safetensors"
"""Its name in a package."""

MOST = 4000
"""Examples that are kept of more, evenly spread."""

_FORM = "1"
Array = NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """What inputs and answers look like when all is well.

    Attributes:
        summaries: ``(N, F)`` of float32.
        logits: ``(N, C)`` of float32.
        labels: True classes ``(N,)``; None where they are not known.
        features: Names of the F numbers.
        teacher: The teacher's classes ``(N,)``; None where it was not asked.
        model: SHA-256 of the ``student.onnx`` that answered; empty where it was not told.
    """

    summaries: Array
    logits: Array
    labels: Array | None
    features: tuple[str, ...]
    teacher: Array | None = None
    model: str = ""

    def __len__(self) -> int:
        return len(self.logits)


def write_reference(
    path: Path,
    inputs_batches: Iterable[Mapping[str, Array]],
    logits: Array,
    labels: Array | None,
    *,
    teacher: Array | None = None,
    model: Path | None = None,
) -> None:
    """Write a reference; it gets its name when it is whole.

    Args:
        path: Where; one that is there is replaced.
        inputs_batches: Validation examples, raw, as the shipped file takes them.
        logits: What it answers to them, ``(N, C)``.
        labels: True classes ``(N,)``, or None.
        teacher: The teacher's logits ``(N, C)``: how often the two disagree when all is well.
        model: The shipped file, to know a reference of another one by.

    Raises:
        DataError: The numbers of examples differ, or something is NaN or infinite.
    """
    summaries, features = _summed(inputs_batches)
    answers = np.asarray(logits, dtype=np.float32)
    extra = {} if labels is None else {"labels": np.asarray(labels, dtype=np.int64)}
    if teacher is not None:
        extra["teacher"] = np.asarray(teacher).argmax(1).astype(np.int64)
    counts = {len(summaries), len(answers), *map(len, extra.values())}
    if len(counts) != 1 or answers.ndim != 2:
        raise DataError(
            f"inputs, answers and labels of {sorted(counts)} examples were given: as many of each "
            "are needed."
        )
    if not (np.isfinite(summaries).all() and np.isfinite(answers).all()):
        raise DataError("inputs or answers hold NaN or infinite numbers: no reference is made.")
    rows = np.linspace(0, len(answers) - 1, min(len(answers), MOST)).round().astype(int)
    arrays = {"summaries": summaries, "logits": answers, **extra}
    words = {"tutelage.reference": _FORM, "features": json.dumps(features)}
    words["model"] = hashlib.sha256(model.read_bytes()).hexdigest() if model else ""
    _save({name: value[rows] for name, value in arrays.items()}, words, Path(path))


def read_reference(path: Path) -> Reference:
    """A reference that `write_reference` wrote.

    Raises:
        DataError: There is none, or it is truncated, foreign or broken.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataError(f"there is no reference {str(path)!r}: check its path.")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            words = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no whole reference: make the package again.") from error
    if words.get("tutelage.reference") != _FORM:
        raise DataError(f"{path} is no reference that this version knows: make the package again.")
    features = tuple(json.loads(words.get("features", "[]")))
    _check(found, len(features), Path(path))
    return Reference(
        found["summaries"],
        found["logits"],
        found.get("labels"),
        features,
        found.get("teacher"),
        words.get("model", ""),
    )


def _summed(batches: Iterable[Mapping[str, Array]]) -> tuple[Array, tuple[str, ...]]:
    parts, names = [], set()
    for batch in batches:
        parts.append(summary(batch))
        names.add(summary_names({name: value[:1] for name, value in batch.items()}))
    if len(names) != 1:
        raise DataError("no examples, or examples of different shapes, were given: one is needed.")
    return np.concatenate(parts), names.pop()


def _save(arrays: Mapping[str, Array], words: Mapping[str, str], path: Path) -> None:
    from safetensors.numpy import save

    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        content = save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, dict(words))
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink()


def _check(found: Mapping[str, Array], features: int, path: Path) -> None:
    summaries, logits = found.get("summaries"), found.get("logits")
    one = [found[name] for name in ("labels", "teacher") if name in found]
    whole = (
        summaries is not None
        and logits is not None
        and logits.ndim == 2
        and summaries.shape == (len(logits), features)
        and all(each.shape == (len(logits),) for each in one)
        and all(each.min(initial=0) >= 0 for each in one)
        and all(each.max(initial=0) < logits.shape[1] for each in one)
        and bool(np.isfinite(summaries).all() and np.isfinite(logits).all())
    )
    if not whole:
        raise DataError(f"{path} does not hold what a reference holds: make the package again.")
