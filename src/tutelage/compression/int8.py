"""ONNX files with weights of eight bits, made without training.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, 2017, arXiv:1712.05877.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tutelage.compression.agreement import agreement_of, answers
from tutelage.compression.calibration import Reader
from tutelage.compression.change import Change
from tutelage.compression.files import copy_words, prepared, written
from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, NotInstalled, RecipeError, suggest
from tutelage.core.quiet import quietly
from tutelage.core.registry import register
from tutelage.evaluation.costs.parameters import file_bytes
from tutelage.evaluation.onnx_model import OnnxModel

_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
_DYNAMIC = ("MatMul", "Gemm", "LSTM")  # convolutions of this kind have no kernel for int8 weights


@register("compression", "int8_static")
def int8_static(
    source: Path,
    target: Path,
    calibration: Sequence[Batch],
    check: Batch,
    *,
    method: Literal["minmax", "entropy", "percentile"] = "minmax",
    per_channel: bool = True,
    examples: int = 256,
    replace: bool = False,
) -> Change:
    """Weights and activations in eight bits, with ranges found on calibration examples.

    For convolutions and linear layers. The file holds QuantizeLinear and DequantizeLinear around
    each operator (QDQ), which ONNX Runtime fuses into integer kernels; it is first optimised and
    its shapes inferred. Nothing is trained: the loss of accuracy is measured and stated, and is
    the caller's to accept. All calibration activations are in memory at once but for ``minmax``.

    Args:
        source: An exported file in float32, left as it is.
        target: Where the int8 file goes; written only if it answers the examples.
        calibration: Real validation examples, in batches; their labels are not used.
        check: Real examples on which both files are compared; with labels, the loss of accuracy
            is stated. Best others than those of calibration.
        method: How a range is chosen: the smallest and largest value seen, the range that loses
            least information (KL divergence), or that of 99.999 % of the values.
        per_channel: A scale for each filter instead of one for each weight.
        examples: How many calibration examples are used, at least 32.
        replace: Whether an older file at ``target`` may be replaced.

    Returns:
        What it did: bytes of the files, and how the answers agree.

    Raises:
        ModelError: ``source`` is no whole ONNX file.
        DataError: There are too few calibration examples, or they are not the file's.
        ShapeMismatch: The examples are not of the shape that the file takes.
        RecipeError: An option is wrong.
        ExportError: The file cannot be quantised or written.
    """
    if method not in _METHODS:
        raise RecipeError(
            f"int8_static has no calibration method {method!r}. {suggest(str(method), _METHODS)}"
        )
    model = OnnxModel(source)
    reader = Reader(calibration, _inputs(source), examples)
    model(next(batch for batch in calibration if len(batch))[:1])  # refuses another shape

    def make(given: Path, to: Path) -> None:
        from onnxruntime import quantization as ort

        # Not CalibMaxIntermediateOutputs: onnxruntime 1.31 then drops what it has seen so far.
        ort.quantize_static(
            given,
            to,
            reader,
            quant_format=ort.QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=ort.QuantType.QUInt8,  # signed ones fuse less on x86,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=getattr(ort.CalibrationMethod, _METHODS[method]),
        )

    details = {"method": method, "per_channel": per_channel, "examples": examples}
    return _quantised("int8_static", model, Path(target), check, make, details, replace)


@register("compression", "int8_dynamic")
def int8_dynamic(
    source: Path, target: Path, check: Batch, *, per_channel: bool = True, replace: bool = False
) -> Change:
    """Weights of linear and LSTM layers in eight bits; activations find their range as they run.

    For networks whose weights are mostly in such layers: no calibration is needed. Convolutions
    and GRU layers stay in float32 (ONNX Runtime has no kernel for them).

    Args:
        source: An exported file in float32, left as it is.
        target: Where the int8 file goes; written only if it answers the examples.
        check: Real examples on which both files are compared; with labels, the loss of accuracy
            is stated.
        per_channel: A scale for each output instead of one for each weight.
        replace: Whether an older file at ``target`` may be replaced.

    Returns:
        What it did: bytes of the files, and how the answers agree.

    Raises:
        ModelError: ``source`` is no whole ONNX file.
        ShapeMismatch: The examples are not of the shape that the file takes.
        ExportError: Nothing in the file can be quantised so, or the result cannot be written.
    """
    model = OnnxModel(source)

    def make(given: Path, to: Path) -> None:
        from onnxruntime import quantization as ort

        ort.quantize_dynamic(
            given,
            to,
            op_types_to_quantize=list(_DYNAMIC),
            per_channel=per_channel,
            weight_type=ort.QuantType.QInt8,
        )

    details = {"per_channel": per_channel}
    return _quantised("int8_dynamic", model, Path(target), check, make, details, replace)


def _quantised(
    name: str,
    model: OnnxModel,
    target: Path,
    check: Batch,
    make: Callable[[Path, Path], None],
    details: dict[str, Any],
    replace: bool,
) -> Change:
    before = answers(model, check)  # refuses examples that the file does not take
    with written(model.path, target, replace=replace) as temporary:
        with prepared(model.path) as given:
            try:
                with quietly():
                    make(given, temporary)
            except ImportError as error:
                raise NotInstalled(f"int8 needs onnx and onnxruntime: {error}.") from error
            except Exception as error:  # ONNX Runtime's tools raise whatever they meet
                said = " ".join(str(error).split())[:200]
                raise ExportError(
                    f"{model.path.name} cannot be quantised: {type(error).__name__}: {said}"
                ) from error
        weights = _in_int8(temporary)
        if not weights:
            raise ExportError(
                f"nothing in {model.path.name} can be quantised by {name}: its weights are in no "
                "layer of that kind."
            )
        copy_words(model.path, temporary)
        after = OnnxModel(temporary)
        agreement = agreement_of(before, answers(after, check), check.targets)
        size = file_bytes(temporary)
    return Change(
        name,
        file_bytes(model.path),
        size,
        model.parameters,
        after.parameters,
        agreement,
        {**details, "int8_weights": weights},
    )


def _inputs(path: Path) -> list[str]:
    import onnx

    graph = onnx.load(str(path)).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [each.name for each in graph.input if each.name not in weights]


def _in_int8(path: Path) -> int:
    """How many tensors of more than one number are weights in eight bits; zero points are not."""
    import onnx

    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    return sum(
        tensor.data_type in kinds and len(tensor.dims) > 1
        for tensor in onnx.load(str(path)).graph.initializer
    )
