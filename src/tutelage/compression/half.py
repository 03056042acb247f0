"""ONNX files whose weights take half the bytes.

Micikevicius et al.: Mixed Precision Training, 2017, arXiv:1710.03740 (float16); Kalamkar et al.:
A Study of BFLOAT16 for Deep Learning Training, 2019, arXiv:1905.12322.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tutelage.compression.agreement import agreement_of, answers
from tutelage.compression.change import Change
from tutelage.compression.files import written
from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, RecipeError, suggest
from tutelage.core.registry import register
from tutelage.evaluation.costs.parameters import file_bytes
from tutelage.evaluation.onnx_model import OnnxModel

_TYPES = ("float16", "bfloat16")
_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}
_LEAST = 128  # numbers: below, the cast would take what the weight saves


@register("compression", "half")
def half(
    source: Path,
    target: Path,
    check: Batch,
    *,
    dtype: Literal["float16", "bfloat16"] = "float16",
    replace: bool = False,
) -> Change:
    """Weights of sixteen bits in the file, float32 in memory: half the size, and the same speed.

    ONNX Runtime casts each weight once, when it loads the file, and computes in float32: inputs,
    outputs and everything between stay as they are. A file that computes in half precision is no
    smaller, and on a CPU no faster: ONNX Runtime has few such kernels there and casts around the
    others.

    Args:
        source: A file in float32, left as it is.
        target: Where the half file goes; written only if it answers the examples.
        check: Real examples on which both files are compared.
        dtype: ``float16`` keeps 11 bits of a number below 65,520; ``bfloat16`` keeps 8 bits of
            any number.
        replace: Whether an older file at ``target`` may be replaced.

    Returns:
        What it did; its details hold how many weights were turned, and how many numbers of them
        became zero (``vanished``).

    Raises:
        ModelError: ``source`` is no whole ONNX file.
        ShapeMismatch: The examples are not of the shape that the file takes.
        RecipeError: The type is none of the two.
        ExportError: A weight is too large for the type, there is none to turn, or the file cannot
            be written.
    """
    if dtype not in _TYPES:
        raise RecipeError(f"half has no dtype {dtype!r}. {suggest(str(dtype), _TYPES)}")
    model, target = OnnxModel(source), Path(target)
    before = answers(model, check)  # refuses examples that the file does not take
    with written(model.path, target, replace=replace) as temporary:
        weights, vanished = _write(model.path, temporary, dtype)
        after = OnnxModel(temporary)
        return Change(
            "half",
            file_bytes(model.path),
            file_bytes(temporary),
            model.parameters,
            after.parameters,
            agreement_of(before, answers(after, check), check.targets),
            {"dtype": dtype, "weights": weights, "vanished": vanished},
        )


def _write(source: Path, target: Path, dtype: str) -> tuple[int, int]:
    import onnx
    from onnx.helper import make_node

    model = onnx.load(str(source))
    given = {each.name for each in model.graph.input}  # old files list weights here too
    casts, vanished = [], 0
    for tensor in model.graph.initializer:
        large = int(np.prod(tensor.dims)) >= _LEAST
        if tensor.data_type != onnx.TensorProto.FLOAT or tensor.name in given or not large:
            continue
        name = tensor.name  # stays that of the float32 weight, which the cast makes
        halved, zeros = _halved(tensor, dtype)
        vanished += zeros
        casts.append(make_node("Cast", [halved.name], [name], to=onnx.TensorProto.FLOAT))
        tensor.CopyFrom(halved)
    if not casts:
        raise ExportError(
            f"{source.name} has no weight in float32 of {_LEAST} numbers or more: half has "
            "nothing to turn."
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return len(casts), vanished


def _halved(tensor: Any, dtype: str) -> tuple[Any, int]:
    """The tensor in half the bytes, under a name of its own, and how many numbers became zero."""
    import onnx
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    kind = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[dtype]
    with np.errstate(over="ignore"):
        turned = values.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    back = turned.astype(np.float32)
    lost = np.isfinite(values) & ~np.isfinite(back)
    if lost.any():
        raise ExportError(
            f"{tensor.name!r} holds {np.abs(values[lost]).max():g}, and {dtype} ends at "
            f"{_LARGEST[dtype]:g}: take bfloat16, or leave it in float32."
        )
    zeros = int(((values != 0) & (back == 0)).sum())
    return numpy_helper.from_array(turned, f"{tensor.name}.{dtype}"), zeros
