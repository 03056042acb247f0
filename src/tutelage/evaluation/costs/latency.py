"""How long one answer takes, measured fairly: models take turns, so a busy moment hits them all."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.core.outputs import Outputs
from tutelage.evaluation.predict import evaluating

Run = Callable[[], object]
"""Answers one batch, completely, and throws the answer away."""


@dataclass(frozen=True)
class Latency:
    """Time of one call.

    Attributes:
        p50: Median, in milliseconds: the usual call.
        p99: 99th percentile, in milliseconds: the slow call that a user remembers.
        backend: ``torch``, ``onnxruntime``, or another runtime's name.
        threads: How many the call may use.
        batch: Examples answered in one call.
        calls: How many calls were measured; under 100 the p99 is little more than the slowest.
        p90: 90th percentile, in milliseconds; None in figures that were taken without it.
    """

    p50: float
    p99: float
    backend: str
    threads: int
    batch: int
    calls: int
    p90: float | None = None

    def as_dict(self) -> dict[str, float | int | str]:
        """For JSON; without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Effort:
    """How much measuring is done.

    Attributes:
        warmup: Calls of each model before anything is measured.
        calls: Measured calls of each model.
        turn: Measured calls of a model before the next one's turn; one more, unmeasured, brings
            its weights back into the cache.
        seconds: Time allowed for everything; when it is over the rounds end early, but never
            before each model was measured once.
    """

    warmup: int = 10
    calls: int = 300
    turn: int = 10
    seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.calls < 1 or self.turn < 1 or self.seconds < 0:
            raise DataError(f"{self} cannot be measured: calls and turn must be at least 1.")


def measure_latency(
    runs: Mapping[str, Run],
    *,
    backend: str,
    threads: int = 1,
    batch: int = 1,
    effort: Effort | None = None,
) -> dict[str, Latency]:
    """Time several models in rounds; in every second round they come in reverse order.

    Args:
        runs: One call of each model, by name.
        backend: Only written down.
        threads: Only written down: the callers below set them.
        batch: Only written down.
        effort: How long and how often.

    Returns:
        A `Latency` for each name.

    Example:
        >>> found = measure_latency({"nothing": lambda: None}, backend="python")
        >>> found["nothing"].calls, found["nothing"].p50 < 1
        (300, True)
    """
    effort = effort if effort is not None else Effort()
    stop = time.perf_counter() + effort.seconds
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(effort.warmup):
            run()
            if time.perf_counter() > stop:
                break
    order = list(runs)
    for turn in range(math.ceil(effort.calls / effort.turn)):
        for name in order if turn % 2 == 0 else reversed(order):
            left = min(effort.turn, effort.calls - turn * effort.turn)
            _turn(runs[name], taken[name], left, stop)
        if time.perf_counter() > stop:
            break
    found = {}
    for name, times in taken.items():
        p50, p90, p99 = _percentiles(times)
        found[name] = Latency(p50, p99, backend, threads, batch, len(times), p90)
    return found


def torch_latency(
    models: Mapping[str, Callable[[Batch], Outputs]],
    example: Batch,
    *,
    threads: int = 1,
    effort: Effort | None = None,
) -> dict[str, Latency]:
    """Time models in PyTorch on the CPU; the number of threads is restored afterwards.

    Args:
        models: Models by name, on the CPU.
        example: What one call answers: its length is the batch size.
        threads: How many threads an operation may use.
        effort: How long and how often.
    """
    _check(example, threads)
    with _all_evaluating(models), _threads(threads), torch.inference_mode():
        runs = {name: _torch_run(model, example) for name, model in models.items()}
        return measure_latency(
            runs, backend="torch", threads=threads, batch=len(example), effort=effort
        )


def onnx_latency(
    files: Mapping[str, str | Path],
    example: Batch,
    *,
    threads: int = 1,
    effort: Effort | None = None,
) -> dict[str, Latency]:
    """Time ONNX files in ONNX Runtime on the CPU: sequential, threads that do not spin.

    Args:
        files: Paths of ``.onnx`` files by name, as `tutelage.deployment.export_onnx` writes them.
        example: What one call answers: its length is the batch size.
        threads: How many threads an operation may use.
        effort: How long and how often.
    """
    _check(example, threads)
    runs = {name: _onnx_run(Path(path), example, threads) for name, path in files.items()}
    return measure_latency(
        runs, backend="onnxruntime", threads=threads, batch=len(example), effort=effort
    )


def mixed_latency(
    models: Mapping[str, Callable[[Batch], Outputs]],
    files: Mapping[str, tuple[str, Run]],
    example: Batch,
    *,
    threads: int = 1,
    effort: Effort | None = None,
) -> dict[str, Latency]:
    """Time models in PyTorch and files in runtimes of their own, all in the same turns.

    Args:
        models: Models by name, on the CPU.
        files: By other names: the runtime, and one call that answers ``example`` in it, told
            already how many threads it may use.
        example: What one call answers: its length is the batch size.
        threads: How many threads an operation may use.
        effort: How long and how often.
    """
    _check(example, threads)
    runs = {name: run for name, (_, run) in files.items()}
    with _all_evaluating(models), _threads(threads), torch.inference_mode():
        runs |= {name: _torch_run(model, example) for name, model in models.items()}
        found = measure_latency(
            runs, backend="torch", threads=threads, batch=len(example), effort=effort
        )
    return {
        name: replace(one, backend=files[name][0]) if name in files else one
        for name, one in found.items()
    }


def _turn(run: Run, times: list[float], calls: int, stop: float) -> None:
    run()
    for _ in range(calls):
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        times.append((end - start) * 1000)
        if end > stop:
            break


def _percentiles(times: list[float]) -> tuple[float, float, float]:
    ends = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    p50, p90, p99 = torch.tensor(times, dtype=torch.float64).quantile(ends).tolist()
    return p50, p90, p99


def _torch_run(model: Callable[[Batch], Outputs], example: Batch) -> Run:
    return lambda: model(example)


def _onnx_run(path: Path, example: Batch, threads: int) -> Run:
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"there is no ONNX file {str(path)!r} to measure.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads take the core away from whoever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    inputs = example.inputs
    tensors = {names[0]: inputs} if isinstance(inputs, Tensor) else dict(inputs)
    feed: dict[str, Any] = {name: tensors[name].numpy() for name in names}
    return lambda: session.run(None, feed)


def _check(example: Batch, threads: int) -> None:
    if threads < 1:
        raise DataError(f"threads is {threads}, and at least 1 is needed.")
    if len(example) < 1:
        raise DataError("the example batch is empty: give what one call should answer.")


@contextmanager
def _all_evaluating(models: Mapping[str, object]) -> Iterator[None]:
    if not models:
        yield
        return
    first, *others = models
    with evaluating(models[first]), _all_evaluating({name: models[name] for name in others}):
        yield


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
