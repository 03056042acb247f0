"""What models cost in use, side by side: warm and cold, few and many at once, on this machine."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import DataError, ShapeMismatch, TutelageError
from tutelage.core.outputs import Outputs
from tutelage.evaluation.costs.cold import Start, cold, middle
from tutelage.evaluation.costs.latency import Effort, Run, mixed_latency
from tutelage.evaluation.costs.limits import Conditions, cores
from tutelage.evaluation.costs.parameters import parameters, weight_bytes
from tutelage.evaluation.predict import evaluating
from tutelage.models import Observed

STARTS = 3
"""Fresh processes of each model, at most."""


class FileModel(Protocol):
    """A file that answers in a runtime of its own.

    `tutelage.evaluation.onnx_model.OnnxModel` is one; others live in
    `tutelage.deployment.formats`.
    """

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def format(self) -> str:
        """``onnx``, ``openvino``, ``torch_program`` or ``executorch``."""

    @property
    def backend(self) -> str:
        """The runtime: a key of `tutelage.evaluation.wording.BACKENDS`."""

    @property
    def parameters(self) -> int | None:
        """Numbers in its weights; None where the runtime does not tell."""

    @property
    def bytes(self) -> int | None:
        """Of its weights; None where the runtime does not tell."""

    def __call__(self, batch: Batch) -> Outputs:
        """Its answer."""

    def feed(self, inputs: Inputs) -> dict[str, Any]:
        """Arrays by name, in the order that the file takes them."""

    def ready(self, inputs: Inputs, threads: int) -> Run:
        """One call that answers these inputs with so many threads."""


@dataclass(frozen=True)
class Subject:
    """A model to be measured.

    Attributes:
        name: What people call it; no two are alike.
        model: Itself, on the CPU.
        start: A fresh process that loads it.
        file: What is shipped; None where it lies in no file of its own.
    """

    name: str
    model: Observed | FileModel
    start: Start
    file: Path | None = None

    @property
    def format(self) -> str:
        """``torch``, or the file's."""
        return "torch" if isinstance(self.model, Observed) else self.model.format


def bench(
    subjects: Sequence[Subject],
    example: Batch,
    conditions: Conditions,
    *,
    seconds: float = 20.0,
    starts: int = STARTS,
    told: Callable[[str], None] = lambda words: None,
) -> dict[str, Any]:
    """Measure models in turns, in this process; first answers in fresh ones.

    Args:
        subjects: The models; the first is what the others are compared with.
        example: Examples that all of them take, at least one.
        conditions: Batches and threads.
        seconds: For the warm calls of all; each is measured once at least. Starts come on top.
        starts: Fresh processes of each model: no more are begun when ``seconds`` are over.
        told: Is told what is being done.

    Returns:
        Plain data for JSON: ``limits``, ``models`` (see docs/bench.md), ``notes``. Ratios are
        this model's figure divided by the first one's.

    Raises:
        TutelageError: A model cannot answer the example at any of the batches.
    """
    if len(example) < 1 or not subjects or not seconds > 0 or starts < 1:
        raise DataError("a bench needs a model, an example, a start, and seconds above 0.")
    largest = _rows(example, max(conditions.batches))
    refused = {each.name: _refusals(each, largest, conditions) for each in subjects}
    notes = [
        f"{name} has no figure for batch {batch}: {why}"
        for name, found in refused.items()
        for batch, why in found.items()
    ]
    if max(conditions.threads) > cores():
        notes.append(
            f"{max(conditions.threads)} threads share the {cores()} cores that this process may "
            "use: more threads than cores answer no faster."
        )
    warm = _warm(subjects, largest, conditions, refused, seconds, told)
    first = _cold(subjects, largest, conditions, refused, starts, seconds, told)
    if any(each["memory_bytes"] is None for each in first.values()):
        notes.append("memory is not measured: this system does not show the peak of a process.")
    models = [
        {**_facts(each), "cold": first[each.name], "warm": warm[each.name]} for each in subjects
    ]
    for one in models:
        one["ratios"] = _ratios(one, models[0])
    return {
        "limits": conditions.limits,
        "preset": conditions.preset,
        "cores": cores(),
        "models": models,
        "notes": notes,
    }


def _rows(example: Batch, count: int) -> Batch:
    """So many examples; where there are fewer, they come again."""
    rows = torch.arange(count) % len(example)
    inputs = example.inputs
    if isinstance(inputs, Tensor):
        return Batch(inputs[rows])
    return Batch({name: tensor[rows] for name, tensor in inputs.items()})


def _refusals(subject: Subject, largest: Batch, conditions: Conditions) -> dict[int, str]:
    """Why a model does not answer so many at once; some files take one number of them alone."""
    found = {}
    for batch in conditions.batches:
        try:
            with evaluating(subject.model), torch.inference_mode():
                subject.model(largest[:batch])
        except (TutelageError, RuntimeError, ValueError, TypeError, IndexError) as error:
            found[batch] = " ".join(str(error).split())[:200]
    if len(found) == len(set(conditions.batches)):
        raise ShapeMismatch(f"{subject.name} answers no batch: {next(iter(found.values()))}")
    return found


def _warm(
    subjects: Sequence[Subject],
    largest: Batch,
    conditions: Conditions,
    refused: Mapping[str, Mapping[int, str]],
    seconds: float,
    told: Callable[[str], None],
) -> dict[str, list[dict[str, Any]]]:
    ways = [(threads, batch) for threads in conditions.threads for batch in conditions.batches]
    effort = Effort(warmup=3, seconds=seconds / len(ways))
    rows: dict[str, list[dict[str, Any]]] = {each.name: [] for each in subjects}
    for threads, batch in ways:
        told(f"threads {threads}, batch {batch}")
        able = [each for each in subjects if batch not in refused[each.name]]
        example = largest[:batch]
        files = {
            s.name: (s.model.backend, s.model.ready(example.inputs, threads))
            for s in able
            if not isinstance(s.model, Observed)
        }
        models = {s.name: s.model for s in able if isinstance(s.model, Observed)}
        found = mixed_latency(models, files, example, threads=threads, effort=effort)
        for name, one in found.items():
            row = one.as_dict() | {"examples_per_second": 1000 * batch / one.p50}
            rows[name].append(row)
    return rows


def _cold(
    subjects: Sequence[Subject],
    largest: Batch,
    conditions: Conditions,
    refused: Mapping[str, Mapping[int, str]],
    starts: int,
    seconds: float,
    told: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    stop, threads = time.perf_counter() + seconds, conditions.threads[0]
    taken: dict[str, list[dict[str, Any]]] = {each.name: [] for each in subjects}
    sizes = {
        name: next(b for b in sorted(conditions.batches) if b not in found)
        for name, found in refused.items()
    }
    with tempfile.TemporaryDirectory() as spare:
        asked: dict[str, dict[str, Any]] = {}
        for number, each in enumerate(subjects):
            asked[each.name] = {"threads": threads, "batch": sizes[each.name]}
            if not isinstance(each.model, Observed):
                kept = Path(spare) / f"{number}.npz"
                numpy.savez(kept, **each.model.feed(largest[: sizes[each.name]].inputs))
                asked[each.name]["example"] = str(kept)
        for turn in range(starts):
            for each in subjects:
                told(f"{each.name} in a fresh process, {turn + 1} of {starts}")
                taken[each.name].append(cold(each.start, each.name, asked[each.name]))
            if time.perf_counter() > stop:
                break
    return {
        name: middle(found) | {"threads": threads, "batch": sizes[name]}
        for name, found in taken.items()
    }


def _facts(subject: Subject) -> dict[str, Any]:
    model, file = subject.model, subject.file
    counts: int | None
    heavy: int | None
    if isinstance(model, Observed):
        counts, heavy = parameters(model).total, weight_bytes(model)
    else:
        counts, heavy = model.parameters, model.bytes
    return {
        "name": subject.name,
        "format": subject.format,
        "file": None if file is None else str(file),
        "file_bytes": None if file is None else shipped_bytes(file),
        "parameters": counts,
        "weight_bytes": heavy,
    }


def shipped_bytes(path: Path) -> int:
    """Bytes of a file, and of the files that an ONNX file or an IR keeps its weights in."""
    others: set[str] = {path.with_suffix(".bin").name} if path.suffix == ".xml" else set()
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(str(path), load_external_data=False).graph
        others = {
            entry.value
            for tensor in graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
    return sum(each.stat().st_size for each in (path, *(path.parent / name for name in others)))


def _ratios(one: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """This model's figures divided by the first one's; None where one of them is not there."""
    keys = ("import_ms", "load_ms", "first_ms", "memory_bytes")
    base = {(row["threads"], row["batch"]): row for row in first["warm"]}
    warm = []
    for row in one["warm"]:
        other = base.get((row["threads"], row["batch"]), {})
        ratios = {key: _ratio(row[key], other.get(key)) for key in ("p50", "p90", "p99")}
        warm.append({"threads": row["threads"], "batch": row["batch"], **ratios})
    cold_ = {key: _ratio(one["cold"][key], first["cold"][key]) for key in keys}
    if "torch" in (one["format"], first["format"]) and one["format"] != first["format"]:
        cold_["load_ms"] = None  # weights into a network that is made already, or a whole file
    return {
        "file_bytes": _ratio(one["file_bytes"], first["file_bytes"]),
        "cold": cold_,
        "warm": warm,
    }


def _ratio(this: float | None, other: float | None) -> float | None:
    return None if this is None or not other else this / other
