"""An OpenVINO file with weights and activations of eight bits, made without training, by NNCF.

Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide.html
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.compression.agreement import Agreement, agreement_of
from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.deployment.formats.kept import expected_of, keep_checked
from tutelage.deployment.formats.openvino import converted, installed, open_openvino, save
from tutelage.deployment.parity import parts
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models.observed import Frozen, Observed

WHAT = "the OpenVINO int8 file"


def export_openvino_int8(
    model: Observed | Frozen | OnnxModel,
    calibration: Batch,
    check: Batch,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    least_equal: float = 0.9,
) -> Agreement:
    """Quantise after training, and state what it costs; a file that is another model is refused.

    Int8 answers are not the model's own: the loss of accuracy is measured on ``check`` and given
    with its interval, and is the caller's to accept.

    Args:
        model: The model with its intake and order of classes; or an ONNX file of one.
        calibration: Real examples that the ranges of activations are found on; a few hundred.
        check: Other real examples; with labels, accuracy is compared.
        path: Of the ``.xml`` file; older files are replaced only by good ones.
        names: Class names, written into the file.
        source: What this model is and where it came from, written into the file.
        least_equal: Share of examples that must keep their answer.

    Returns:
        How the answers agree, with the loss of accuracy.

    Raises:
        ExportError: The model cannot be converted, or too many answers change.
        NotInstalled: OpenVINO or NNCF is not there.
    """
    if len(calibration) == 0:
        raise ExportError("no examples were given to find the ranges of activations on.")
    if isinstance(model, OnnxModel):
        expected = model(check).logits.double()
    else:
        model, expected = expected_of(model, check, tuple(names))
    nncf = _nncf()

    def write(made: Path) -> None:
        whole = converted(model, check, made, names, source)
        save(_quantised(nncf, whole, calibration), made)

    def look(made: Path) -> Agreement:
        file = open_openvino(made)
        found = torch.full_like(expected, torch.nan)
        for rows in parts(len(check)):  # one by one, and together
            found[rows] = file(check[rows]).logits.double()
        agreed = agreement_of(expected, found, check.targets)
        if agreed.equal_top1 < least_equal:
            raise ExportError(
                f"{WHAT} gives another class for {1 - agreed.equal_top1:.1%} of "
                f"{agreed.examples} real examples, and {1 - least_equal:.0%} is allowed: nothing "
                "was written."
            )
        return agreed

    return keep_checked(Path(path), write, look, WHAT)


def _quantised(nncf: Any, model: Any, calibration: Batch) -> Any:
    """In int8, with ranges found one example at a time; float32 where NNCF sees no gain."""
    names = [each.get_any_name() for each in model.inputs]
    feeds = []
    for row in range(len(calibration)):
        given = calibration[row : row + 1].inputs
        tensors = {names[0]: given} if isinstance(given, torch.Tensor) else given
        feeds.append({name: tensors[name].numpy() for name in names})
    spared = nncf.IgnoredScope(names=resizes(model))
    with quietly():
        return nncf.quantize(
            model, nncf.Dataset(feeds), subset_size=len(feeds), ignored_scope=spared
        )


def resizes(model: Any) -> list[str]:
    """Products that a `FixedResize` became: they stay in float32.

    NNCF 3.4 takes the mean that is subtracted after them for a bias, and fails to correct it.

    Args:
        model: OpenVINO's model.

    Returns:
        Names of its operations: products with a constant on the left, and what they go to.
    """
    products = [each for each in model.get_ops() if each.get_type_name() == "MatMul"]
    lefts = {
        each.get_friendly_name()
        for each in products
        if each.input_value(0).get_node().get_type_name() == "Constant"
    }
    rights = {
        each.get_friendly_name()
        for each in products
        if each.input_value(0).get_node().get_friendly_name() in lefts
        and each.input_value(1).get_node().get_type_name() == "Constant"
    }
    return sorted(lefts | rights)


def _nncf() -> Any:
    installed()
    try:
        with quietly():
            import nncf
    except ImportError as error:
        raise NotInstalled(
            'int8 files of OpenVINO need NNCF: pip install "tutelage[openvino]".'
        ) from error
    return nncf
