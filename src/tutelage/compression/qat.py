"""A student that learns with the rounding of its own int8 file, and that file.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, 2017, arXiv:1712.05877; with a teacher, Polino, Pascanu,
Alistarh, 2018, arXiv:1802.05668. Torchao's PT2E was weighed and left: it gives back a graph
without module paths, so that features could not be matched while the student learns.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.compression.agreement import agreement_of, answers
from tutelage.compression.change import Change
from tutelage.compression.files import written
from tutelage.compression.folding import fold
from tutelage.compression.places import Place, places_of
from tutelage.compression.qdq import Int8Layer, Steps, weights_in, write_qdq
from tutelage.compression.spans import (
    LARGEST,
    Rounded,
    RoundedConv2d,
    RoundedLinear,
    Rounding,
    Span,
    plain_layer,
    rounded_layer,
)
from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import DataError, ExportError, ModelError, RecipeError
from tutelage.core.registry import register
from tutelage.evaluation.costs.parameters import file_bytes
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models.observed import Observed


@register("compression", "int8_learned")
def qat_prepared(
    model: Observed, calibration: Sequence[Batch], *, momentum: float = 0.01
) -> Observed:
    """A copy that computes as its int8 file will, to be taught through the one loop.

    Weights of convolutions and linear layers are rounded to eight bits for each output, what they
    read and answer to eight bits for each tensor, at the very places where the file has its
    integer kernels: around each layer with the activation after it. Everything between (residual
    additions, normalisations that follow no layer, pools, attention) stays in float. Batch
    normalisation after a layer is folded into it first, so that the weights that learn are those
    of the file; its place holds an identity, and all module paths stay. A tapped layer that an
    activation follows shows its output after that activation, rounded.

    Args:
        model: A trained student in float32, left as it is.
        calibration: Real training or validation examples that show the first ranges.
        momentum: Share of each batch in the ranges as they follow what is learned.

    Returns:
        The student: in training its ranges follow the batches, in eval mode they stay. They are
        buffers of its state.

    Raises:
        RecipeError: The momentum is no share.
        DataError: There are no calibration examples, or they are not finite.
        ModelError: The model's graph cannot be taken, or it has no layer that can learn so.
    """
    if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 < momentum <= 1:
        raise RecipeError(f"momentum must be above 0 and at most 1, got {momentum!r}.")
    if not isinstance(model, Observed):
        raise ModelError(f"qat_prepared takes an Observed, got a {type(model).__name__}: wrap it.")
    if next(_rounded(model), None) is not None:
        raise ModelError("the model learns in int8 already: give the float student.")
    examples = _examples(calibration)
    student = copy.deepcopy(model).eval()
    student.release()
    before = answers(model, examples[0])
    places = places_of(student, _two(examples[0].inputs))
    _fold_and_wrap(student.model, places, momentum)
    _refuse_other(before, _in_mode(student, "off", examples[:1]))
    _in_mode(student, "watch", examples)
    _set(student, "on")
    return student.train(model.training)


def qat_finished(
    student: Observed,
    target: Path,
    check: Batch,
    export: Callable[[Observed, Path], object],
    *,
    replace: bool = False,
) -> Change:
    """The int8 file of a student that `qat_prepared` made and the loop has taught.

    The student without its roundings is exported as a float file; the roundings that it learned
    are then written into that. Nothing is calibrated again.

    Args:
        student: Left as it is.
        target: Where the int8 file goes; written only if it answers as the student does.
        check: Real examples on which the student and its file are compared.
        export: Writes a float model as an ONNX file, as
            `tutelage.deployment.export_onnx` does:
            ``lambda plain, path: export_onnx(plain, examples, path, names=names)``.
        replace: Whether an older file at ``target`` may be replaced.

    Returns:
        What it did: bytes of the float file and of this one, and how the answers agree with the
        student's own, rounded as it learned them. Its details hold the mean difference of a logit
        between student and file (``mean_difference``), and that between the student with and
        without rounding (``rounding``), both as a share of the largest logit.

    Raises:
        ModelError: The student was not made by `qat_prepared`.
        ExportError: The file cannot be written, or does not answer as the student does.
    """
    if not isinstance(student, Observed) or next(_rounded(student), None) is None:
        raise ModelError("qat_finished takes a student made by qat_prepared.")
    target = Path(target)
    taught, plain = answers(student, check), qat_float(student)
    layers = {f"model.{path}": layer for path, layer in _rounded(student)}
    with (
        tempfile.TemporaryDirectory(prefix="tutelage-") as folder,
        written(Path(folder) / "float.onnx", target, replace=replace) as temporary,
    ):
        source = Path(folder) / "float.onnx"
        export(plain, source)
        exported = OnnxModel(source)
        names = weights_in(source, {path: _array(layer.weight) for path, layer in layers.items()})
        write_qdq(source, temporary, {names[path]: _int8(layers[path]) for path in layers})
        made = OnnxModel(temporary)
        found = answers(made, check)
        facts = _difference(taught, found, answers(plain, check))
        return Change(
            "int8_learned",
            file_bytes(source),
            file_bytes(temporary),
            exported.parameters,
            made.parameters,
            agreement_of(taught, found, check.targets),
            {"layers": len(layers), **facts},
        )


def qat_float(student: Observed) -> Observed:
    """A copy of the student without its roundings, in plain layers; normalisations stay folded."""
    plain = copy.deepcopy(student)
    plain.release()
    for path, layer in list(_rounded(plain)):
        plain.model.set_submodule(path, plain_layer(layer))
    return plain


def _rounded(model: Observed) -> Iterator[tuple[str, Rounded]]:
    for path, module in model.model.named_modules():
        if isinstance(module, RoundedConv2d | RoundedLinear):
            yield path, module


def _examples(calibration: Sequence[Batch]) -> list[Batch]:
    examples = [batch for batch in calibration if len(batch)]
    if not examples:
        raise DataError("no calibration examples were given: ranges are found on real ones.")
    for batch in examples:
        inputs = batch.inputs
        for tensor in [inputs] if isinstance(inputs, Tensor) else inputs.values():
            if not bool(tensor.isfinite().all()):
                raise DataError("some calibration examples are NaN or infinite.")
    return examples


def _two(inputs: Inputs) -> Inputs:
    """Two examples: a batch of one is a constant for torch.export."""

    def two(tensor: Tensor) -> Tensor:
        return tensor[:2] if len(tensor) > 1 else torch.cat([tensor, tensor])

    if isinstance(inputs, Tensor):
        return two(inputs)
    return {name: two(tensor) for name, tensor in inputs.items()}


def _fold_and_wrap(model: nn.Module, places: Sequence[Place], momentum: float) -> None:
    outgoing: dict[str, Span] = {}
    for place in places:
        if not place.path:
            raise ModelError("the model is one bare layer: put it into a torch.nn.Sequential.")
        layer: Any = model.get_submodule(place.path)
        if place.norm is not None:
            norm: Any = model.get_submodule(place.norm)
            fold(layer, norm)
            model.set_submodule(place.norm, nn.Identity())
        given = outgoing[place.source] if place.source is not None else None
        rounding = Rounding(place.activation, given, answers=place.answers, momentum=momentum)
        model.set_submodule(place.path, rounded_layer(layer, rounding.to(layer.weight.device)))
        if rounding.outgo is not None:
            outgoing[place.path] = rounding.outgo


def _set(model: Observed, mode: Literal["off", "watch", "on"]) -> None:
    for _, layer in _rounded(model):
        layer.rounding.mode = mode


def _in_mode(model: Observed, mode: Literal["off", "watch"], batches: Sequence[Batch]) -> Tensor:
    _set(model, mode)
    try:
        return torch.cat([answers(model, batch) for batch in batches])
    except (RuntimeError, AttributeError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"the model does not run with its layers rounded: {said}") from error


def _refuse_other(before: Tensor, folded: Tensor) -> None:
    off = float((before - folded).abs().amax() / before.abs().amax().clamp(min=1e-12))
    if not off <= 1e-3:
        raise ModelError(
            f"the model with its normalisations folded differs by {off:.2g} of the largest logit: "
            "its layers are not what its graph says."
        )


def _int8(layer: Rounded) -> Int8Layer:
    rounding, bias = layer.rounding, layer.bias
    widths = rounding.weight_steps(layer.weight, bias)
    each = widths.view(-1, *[1] * (layer.weight.ndim - 1))
    weight = (layer.weight.detach().float() / each).round().clamp(-LARGEST, LARGEST)
    return Int8Layer(
        weight=_array(weight.to(torch.int8)),
        widths=_array(widths),
        bias=None if bias is None else _array(bias.float()),
        incoming=_steps(rounding.incoming),
        outgoing=None if rounding.outgo is None else _steps(rounding.outgo),
        activated=rounding.activation != "none",
    )


def _steps(span: Span) -> Steps:
    width, zero = span.steps()
    return Steps(float(width), int(zero))


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _difference(taught: Tensor, found: Tensor, plain: Tensor) -> dict[str, float]:
    scale = taught.abs().amax().clamp(min=1e-12)
    off = float((found - taught).abs().mean() / scale)
    rounding = float((plain - taught).abs().mean() / scale)
    if not off <= max(rounding, 0.01):
        raise ExportError(
            f"the int8 file differs from the student by {off:.2g} of the largest logit on average, "
            f"and rounding itself makes {rounding:.2g}: it does not compute what was learned."
        )
    return {"mean_difference": off, "rounding": rounding}
