"""Whether the model files of a package load, and answer."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import PackageError

_MOST = 2**28  # numbers in one input of a single example

KINDS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
"""Types of ONNX Runtime's inputs, and what numpy calls them."""


def opens(path: Path) -> int:
    """How many tensors a safetensors file holds, all of them finite.

    Raises:
        PackageError: It cannot be opened, holds none, or one of NaN or infinite numbers.
    """
    from tutelage.core.errors import ModelError
    from tutelage.models.weights import read_weights

    try:
        found = read_weights(path)
    except ModelError as error:
        raise PackageError(str(error)) from error
    if not found:
        raise PackageError(f"{path.name} holds no tensors.")
    for name, value in found.items():
        if value.is_floating_point() and not bool(value.float().isfinite().all()):
            raise PackageError(f"{path.name}: {name:.80} holds NaN or infinite numbers.")
    return len(found)


def answers(path: Path, stated: Mapping[str, Any], classes: int) -> int:
    """See that an ONNX file takes the stated inputs, and answers zeros with finite numbers.

    Args:
        path: The file, weights and all: one that points to other files is refused.
        stated: ``preprocessing.json``: ``inputs`` by name, each with ``shape`` and ``dtype``.
        classes: How many logits one example has.

    Returns:
        How many answers it gives at once: more than one where it has several exits.

    Raises:
        PackageError: It cannot be loaded, takes something else, or answers otherwise.
    """
    session = _session(path)
    takes = {each.name: each for each in session.get_inputs()}
    inputs = stated.get("inputs")
    if not isinstance(inputs, dict) or set(inputs) != set(takes):
        raise PackageError(
            f"{path.name} takes {', '.join(takes)}, and preprocessing.json states "
            f"{', '.join(inputs) if isinstance(inputs, dict) else 'no inputs'}."
        )
    feed = {name: _zeros(path, name, inputs[name], takes[name].type) for name in takes}
    try:
        found = session.run(None, feed)
    except Exception as error:  # ONNX Runtime has a class of its own for every kind
        raise PackageError(
            f"{path.name} cannot answer zeros of the stated shape: {_line(error)}"
        ) from error
    _judge(path, found, classes)
    return len(found)


def _judge(path: Path, found: list[Any], classes: int) -> None:
    import numpy as np

    for logits in found:
        if not isinstance(logits, np.ndarray) or logits.shape != (1, classes):
            raise PackageError(
                f"{path.name} answers with {getattr(logits, 'shape', 'no tensor')}, and "
                f"labels.json has {classes} labels: (1, {classes}) is needed."
            )
        if not np.isfinite(logits).all():
            raise PackageError(f"{path.name} answers zeros with NaN or infinite numbers.")


def _zeros(path: Path, name: str, stated: Any, kind: str) -> Any:
    import numpy as np

    shape = stated.get("shape") if isinstance(stated, dict) else None
    sizes = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    if not sizes or math.prod(shape) > _MOST:  # type: ignore[arg-type]  # a list of int by now
        raise PackageError(f"preprocessing.json: the shape of {name} is {shape!r:.80}.")
    if stated.get("dtype") != KINDS.get(kind):
        raise PackageError(
            f"preprocessing.json: {name} is {stated.get('dtype')!r:.40}, and {path.name} takes "
            f"{kind}."
        )
    return np.zeros((1, *shape), dtype=KINDS[kind])  # type: ignore[misc]


def _session(path: Path) -> Any:
    import onnx
    import onnxruntime

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own classes differ by version
        raise PackageError(f"{path.name} is no whole ONNX file: {_line(error)}") from error
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    if any(uses_external_data(tensor) for tensor in _get_all_tensors(model)):
        raise PackageError(
            f"{path.name} points to files outside of it: its weights must be inside."
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise PackageError(f"{path.name} cannot be loaded: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
