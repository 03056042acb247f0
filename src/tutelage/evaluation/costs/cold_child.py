"""What a fresh process does that loads a model and answers once; as a script: with a file.

It imports the standard library alone, so that the process holds no more than its runtime needs.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
"""Where Linux shows the memory of a process."""


def first_answer(load: Callable[[], Any], answer: Callable[[Any], object]) -> dict[str, Any]:
    """Load, answer once, and say what that took.

    Args:
        load: Makes the model.
        answer: Asks it once.

    Returns:
        ``load_ms``, ``first_ms``, and ``memory_bytes``: how far the resident memory grew at its
        peak; None where the system does not tell.

    Example:
        >>> sorted(first_answer(lambda: 1, lambda model: model))
        ['first_ms', 'load_ms', 'memory_bytes']
    """
    gc.collect()
    _give_back()
    before = _forgotten_peak()
    start = time.perf_counter()
    model = load()
    loaded = time.perf_counter()
    answer(model)
    done = time.perf_counter()
    grown = None if before is None else max(0, _memory("VmHWM") - before)
    return {
        "load_ms": (loaded - start) * 1000,
        "first_ms": (done - loaded) * 1000,
        "memory_bytes": grown,
    }


def _give_back() -> None:
    """Freed memory back to the system, or what was freed before would hide what is used now."""
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _forgotten_peak() -> int | None:
    """Resident bytes now, the peak so far forgotten; None where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS")
    except (OSError, ValueError):
        return None


def _memory(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{STATUS} has no {key}.")


def _feed(asked: dict[str, Any]) -> dict[str, Any]:
    import numpy

    with numpy.load(asked["example"], allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def _imported(*names: str) -> float:
    """Milliseconds that importing took."""
    start = time.perf_counter()
    for name in names:
        importlib.import_module(name)
    return (time.perf_counter() - start) * 1000


def _onnx(asked: dict[str, Any]) -> dict[str, Any]:
    imported = _imported("onnxruntime")
    import onnxruntime

    feed = _feed(asked)

    def load() -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = asked["threads"], 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(
            asked["path"], options, providers=["CPUExecutionProvider"]
        )

    return {"import_ms": imported, **first_answer(load, lambda model: model.run(None, feed))}


def _openvino(asked: dict[str, Any]) -> dict[str, Any]:
    imported = _imported("openvino")
    import openvino

    feed = _feed(asked)
    told = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": asked["threads"],
        "NUM_STREAMS": 1,
    }

    def load() -> Any:
        core = openvino.Core()
        return core.compile_model(core.read_model(asked["path"]), "CPU", told)

    def answer(model: Any) -> object:
        return model.create_infer_request().infer(feed)

    return {"import_ms": imported, **first_answer(load, answer)}


def _program(asked: dict[str, Any]) -> dict[str, Any]:
    imported = _imported("torch", "torch.export")
    import torch

    torch.set_num_threads(asked["threads"])
    tensors = {name: torch.from_numpy(array) for name, array in _feed(asked).items()}
    given = tensors if asked.get("by_name") else next(iter(tensors.values()))

    def load() -> Any:
        return torch.export.load(asked["path"]).module()

    with torch.inference_mode():
        return {"import_ms": imported, **first_answer(load, lambda model: model(given))}


def _executorch(asked: dict[str, Any]) -> dict[str, Any]:
    imported = _imported("executorch.runtime")
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime, Verification

    portable_lib._unsafe_reset_threadpool(asked["threads"])
    given = [torch.from_numpy(array) for array in _feed(asked).values()]

    def load() -> Any:
        program = Runtime.get().load_program(asked["path"], verification=Verification.Minimal)
        return program, program.load_method("forward")

    return {"import_ms": imported, **first_answer(load, lambda both: both[1].execute(given))}


_RUNTIMES = {
    "onnxruntime": _onnx,
    "openvino": _openvino,
    "torch_program": _program,
    "executorch": _executorch,
}

if __name__ == "__main__":
    told = json.load(sys.stdin)
    sys.stdout.write(json.dumps(_RUNTIMES[told.get("runtime", "onnxruntime")](told)) + "\n")
