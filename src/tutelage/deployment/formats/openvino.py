"""A model as OpenVINO's intermediate representation: ``NAME.xml``, its weights in ``NAME.bin``.

Source: https://docs.openvino.ai/2026/openvino-workflow/model-preparation.html
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, ModelError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.deployment.export import _about, _line, _Shipped, _write
from tutelage.deployment.formats.file_model import Call, FileModel, Opened
from tutelage.deployment.formats.kept import expected_of, keep_checked, same_answers
from tutelage.deployment.formats.resize import fix_sizes
from tutelage.deployment.parity import Parity
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models.observed import Frozen, Observed

WHAT = "the OpenVINO file"


def export_openvino(
    model: Observed | Frozen | OnnxModel,
    examples: Batch,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    tolerance: float = 1e-4,
) -> Parity:
    """Write ``NAME.xml`` and ``NAME.bin`` in float32, and keep them only if they are the model.

    The file takes the data's own inputs, any number of them at once. It is run by OpenVINO with
    float32 asked for: on many processors OpenVINO's own choice is bfloat16, whose answers differ.

    Args:
        model: The model with its intake and order of classes; or an ONNX file of one.
        examples: Real examples of the data, a few dozen; the labels are not used.
        path: Of the ``.xml`` file; older files are replaced only by good ones.
        names: Class names, written into the file; an ONNX file's own go along.
        source: What this model is and where it came from, written into the file.
        tolerance: Largest difference allowed, as a share of the largest logit.

    Returns:
        What the comparison found.

    Raises:
        ExportError: The model cannot be converted, or the file does not compute the same.
        NotInstalled: OpenVINO is not there.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ExportError(f"{path}: an OpenVINO file is called NAME.xml.")
    if isinstance(model, OnnxModel):
        expected = model(examples).logits.double()
    else:
        model, expected = expected_of(model, examples, tuple(names))

    def write(made: Path) -> None:
        save(converted(model, examples, made, names, source), made)

    def check(made: Path) -> Parity:
        return same_answers(open_openvino(made), examples.inputs, expected, tolerance, WHAT)

    return keep_checked(path, write, check, WHAT)


def converted(
    model: Observed | OnnxModel, examples: Batch, beside: Path, names: Sequence[str], source: str
) -> Any:
    """OpenVINO's model of a torch model or an ONNX file; a spare file is made and removed."""
    openvino = installed()
    if isinstance(model, OnnxModel):
        with quietly():
            return openvino.convert_model(model.path)
    shipped, spare = _Shipped.of(model), beside.with_name("spare.onnx")
    fix_sizes(shipped, examples[:1].inputs)
    try:
        _write(shipped, examples.inputs, _about(examples.inputs, names, source), spare)
        with quietly():
            return openvino.convert_model(spare)
    finally:
        spare.unlink(missing_ok=True)


def save(model: Any, path: Path) -> None:
    """Write both files, weights in the width that they have."""
    with quietly():
        installed().save_model(model, path, compress_to_fp16=False)


def open_openvino(path: Path) -> FileModel:
    """Open ``NAME.xml`` on the CPU: float32 is asked for, and one stream.

    Raises:
        ModelError: OpenVINO cannot open it, or its weights are not beside it.
        NotInstalled: OpenVINO is not there.
    """
    openvino = installed()
    if not path.with_suffix(".bin").is_file():
        raise ModelError(f"{path} has no {path.with_suffix('.bin').name} beside it: its weights.")
    core = openvino.Core()
    try:
        model = core.read_model(path)
        compiled = {1: core.compile_model(model, "CPU", _told(1))}
    except Exception as error:  # OpenVINO raises RuntimeError for everything
        raise ModelError(
            f"{path} cannot be loaded by OpenVINO: {_line(error)}: name a whole .xml file."
        ) from error

    def prepared(feed: dict[str, Any], threads: int) -> Call:
        if threads not in compiled:
            compiled[threads] = core.compile_model(model, "CPU", _told(threads))
        request = compiled[threads].create_infer_request()
        return lambda: request.infer(feed)

    sizes = [_constant(each) for each in model.get_ops() if each.get_type_name() == "Constant"]
    return FileModel(
        path,
        "openvino",
        Opened(
            prepared,
            lambda raw: torch.from_numpy(raw[0].copy()),
            tuple(each.get_any_name() for each in model.inputs),
            _words(model),
            sum(count for count, _, learned in sizes if learned),
            math.ceil(sum(count * bits / 8 for count, bits, _ in sizes)),
        ),
    )


def installed() -> Any:
    """The package.

    Raises:
        NotInstalled: It is not there.
    """
    try:
        import openvino
    except ImportError as error:
        raise NotInstalled(
            'OpenVINO files need OpenVINO: pip install "tutelage[openvino]".'
        ) from error
    return openvino


def _told(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }


def _constant(operation: Any) -> tuple[int, int, bool]:
    """How many numbers, of how many bits, and whether they are of a kind that is learned."""
    kind = operation.get_element_type()
    learned = kind.is_real() or kind.get_type_name() in ("i8", "u8", "i4", "u4")
    return math.prod(operation.get_output_shape(0)), kind.bitwidth, learned


def _words(model: Any) -> dict[str, str]:
    """What an ONNX file said of itself; OpenVINO keeps it under ``framework``."""
    found = {}
    for key in ("classes", "input_range", "input_shape", "input_dtype", "source", "version"):
        place = ["framework", f"tutelage.{key}"]
        if model.has_rt_info(place):
            found[f"tutelage.{key}"] = str(model.get_rt_info(place).value)
    return found
