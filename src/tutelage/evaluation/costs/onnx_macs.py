"""Multiply-accumulate operations of an ONNX file for one example, from its graph and shapes.

What is counted and what is free is as in `macs`; an operation in neither list is an error.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import ModelError

Shape = Sequence[int]


def onnx_macs(path: str | Path) -> int:
    """Multiply-accumulates of one answer.

    Args:
        path: An ``.onnx`` file; every shape in it must follow from that of its inputs, with one
            example in the batch.

    Raises:
        ModelError: A shape cannot be inferred, or the cost of an operation is not known here.
    """
    import onnx

    model = onnx.load(os.fspath(path))
    for given in model.graph.input:
        for place, size in enumerate(given.type.tensor_type.shape.dim):
            if not size.HasField("dim_value") and place == 0:
                size.dim_value = 1
    # Shapes written down with a free batch would stand in the way of those with one example.
    del model.graph.value_info[:]
    try:
        whole = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=False)
    except Exception as error:  # onnx raises a class of its own
        raise ModelError(f"the shapes of {Path(path).name} cannot be inferred: {error}") from error
    shapes = {each.name: list(each.dims) for each in whole.graph.initializer}
    for value in [*whole.graph.input, *whole.graph.value_info]:
        sizes = value.type.tensor_type.shape.dim
        if all(size.HasField("dim_value") for size in sizes):
            shapes[value.name] = [size.dim_value for size in sizes]
    return sum(_cost(node, shapes, Path(path).name) for node in whole.graph.node)


def _cost(node: Any, shapes: Mapping[str, Shape], name: str) -> int:
    if node.op_type in _FREE:
        return 0
    if node.op_type not in _COUNTED:
        raise ModelError(
            f"{name} runs {node.op_type}, whose multiply-accumulates are not known here: no figure "
            "is better than a wrong one."
        )
    try:
        return _COUNTED[node.op_type](node, shapes)
    except KeyError as error:
        raise ModelError(
            f"the shape of {error} in {name} does not follow from its inputs, so its "
            "multiply-accumulates cannot be counted."
        ) from error


def _convolution(node: Any, shapes: Mapping[str, Shape]) -> int:
    inputs, weight = (shapes[name] for name in node.input[:2])
    if node.op_type == "ConvTranspose":
        return math.prod(inputs[2:]) * math.prod(weight)
    return math.prod(_output(node, inputs, weight)) * math.prod(weight)


def _output(node: Any, inputs: Shape, weight: Shape) -> list[int]:
    """Height and width of a convolution's result, from its attributes."""
    told = {each.name: each for each in node.attribute}

    def ints(name: str, default: int, many: int) -> list[int]:
        return list(told[name].ints) if name in told else [default] * many

    rank = len(inputs) - 2
    strides, steps = ints("strides", 1, rank), ints("dilations", 1, rank)
    pads = ints("pads", 0, 2 * rank)
    auto = told["auto_pad"].s if "auto_pad" in told else b"NOTSET"
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        return [-(-size // stride) for size, stride in zip(inputs[2:], strides, strict=True)]
    return [
        (size + pads[i] + pads[i + rank] - steps[i] * (weight[2 + i] - 1) - 1) // strides[i] + 1
        for i, size in enumerate(inputs[2:])
    ]


def _gemm(node: Any, shapes: Mapping[str, Shape]) -> int:
    left, right = (shapes[name] for name in node.input[:2])
    across = next((each.i for each in node.attribute if each.name == "transB"), 0)
    return math.prod(left) * (right[0] if across else right[1])


def _product(node: Any, shapes: Mapping[str, Shape]) -> int:
    left, right = (shapes[name] for name in node.input[:2])
    columns = right[-1] if len(right) > 1 else 1
    repeated = math.prod(right[:-2]) // max(1, math.prod(left[:-2])) if len(right) > 2 else 1
    return math.prod(left) * columns * max(1, repeated)


_COUNTED: dict[str, Callable[[Any, Mapping[str, Shape]], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _product,
}

_FREE = {
    word
    for line in (
        "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip "
        "Concat Constant ConstantOfShape Cos CumSum DepthToSpace Div Dropout Elu Equal Erf "
        "Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu "
        "GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization "
        "HardSigmoid HardSwish Identity InstanceNormalization IsNaN LayerNormalization "
        "LeakyRelu Less LessOrEqual Log LogSoftmax Max MaxPool Mean Min Mish Mod Mul Neg Not "
        "OneHot Or PRelu Pad Pow QuickGelu Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp "
        "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape "
        "Resize RMSNormalization Round ScatterElements ScatterND Selu Shape Sigmoid Sign Silu "
        "Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum "
        "Swish Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor ",
    )
    for word in line.split()
}
