"""A model as an ONNX file that was seen to compute what the model computes, before it is kept."""

import copy
import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ExportError
from tutelage.core.quiet import quietly
from tutelage.deployment.parity import Parity, compared
from tutelage.evaluation.costs.parameters import weight_bytes
from tutelage.evaluation.predict import evaluating
from tutelage.models.observed import Frozen, Observed

OPSET = 20
"""The ONNX operator set that is written: ONNX Runtime 1.18 (2024) and later run it."""

_LARGEST = 1_900_000_000  # bytes; one protobuf file ends at 2 GiB


def export_onnx(
    model: Observed | Frozen,
    examples: Batch,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    tolerance: float = 1e-4,
) -> Parity:
    """Write a model with its intake as one ONNX file, and keep it only if it computes the same.

    The file takes the data's own inputs (images in [0, 1], not normalised), any number of them at
    once, and gives logits in the data's order of classes; of text, rows of any length. It is run by
    ONNX Runtime on the examples, one by one and together, and compared with the model, before it
    gets its name; if anything is wrong, no file is left. The model itself is not changed, its
    feature taps stay.

    Args:
        model: The model with its intake and order of classes.
        examples: Real examples of the data, a few dozen; the labels are not used.
        path: Where the file goes; an older one is replaced only by a good one.
        names: Class names, written into the file.
        source: What this model is and where it came from, written into the file.
        tolerance: Largest difference allowed, as a share of the largest logit.

    Returns:
        What the comparison found.

    Raises:
        ExportError: The model cannot be exported, the path cannot be written, or the file does
            not compute the same.
    """
    path = Path(path)
    if not isinstance(model, Observed | Frozen):
        raise ExportError(
            f"export_onnx takes an Observed or a Frozen, got a {type(model).__name__}: wrap it: "
            "Observed(model)."
        )
    observed = model.observed if isinstance(model, Frozen) else model
    if len(examples) == 0:
        raise ExportError("no examples were given: an export is checked on real ones.")
    heavy = weight_bytes(observed)
    if heavy > _LARGEST:
        raise ExportError(
            f"the weights take {heavy / 1e9:.1f} GB, and one ONNX file holds less than 2 GB: "
            "ship the safetensors file."
        )
    expected = _answers(observed, examples)
    of_tokens = expected.ndim == 3
    if names and len(names) != expected.shape[-1]:
        raise ExportError(
            f"{len(names)} class names were given, and the model has {expected.shape[-1]} classes."
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _make_way(path, temporary)
    about = _about(examples.inputs, names, source)
    try:
        _write(_Shipped.of(observed), examples.inputs, about, temporary, of_tokens=of_tokens)
        parity = _compare(temporary, examples.inputs, expected, tolerance)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}.data").unlink(missing_ok=True)
    return parity


def _make_way(path: Path, temporary: Path) -> None:
    """Find out that a file cannot be written before the model is traced, which takes seconds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.touch()
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written: {error.strerror}. Name a file in a folder that can be "
            "written to."
        ) from error


class _Shipped(nn.Module):
    """Raw inputs in, logits in the data's order of classes out: all that a file needs."""

    classes: Tensor | None

    def __init__(self, observed: Observed):
        super().__init__()
        self.intake, self.model, self.read = observed.intake, observed.model, observed.read
        self.register_buffer("classes", observed.classes)

    @staticmethod
    def of(observed: Observed) -> "_Shipped":
        """A copy on the CPU, in eval mode; taps stay with the original."""
        try:
            shipped = copy.deepcopy(_Shipped(observed))
        except Exception as error:
            raise ExportError(f"the model cannot be copied for export: {_line(error)}") from error
        return shipped.cpu().eval().requires_grad_(False)

    def forward(self, inputs: Inputs) -> Tensor:
        logits = self.read(self.model, self.intake(inputs))
        return logits if self.classes is None else logits.index_select(-1, self.classes)


def _write(
    shipped: nn.Module,
    inputs: Inputs,
    about: dict[str, str],
    path: Path,
    outputs: Sequence[str] = ("logits",),
    *,
    of_tokens: bool = False,
) -> None:
    import onnx

    few = _rows(inputs, slice(0, 3))
    if _length(few) < 2:  # torch.export takes a batch of one for a constant
        few = _map(few, lambda t: torch.cat([t, t]))
    shapes: Any = _dims(few, of_tokens=of_tokens)
    given = ["inputs"] if isinstance(few, Tensor) else list(few)
    try:
        with quietly(), torch.no_grad():
            program = torch.onnx.export(
                shipped,
                kwargs={"inputs": few},  # by name: a dictionary at the end of args means another
                dynamo=True,
                dynamic_shapes={"inputs": shapes},
                input_names=given,
                output_names=list(outputs),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
            if program is None:
                raise ExportError("torch returned no program.")
            program.save(str(path), external_data=False)
            written = onnx.load(str(path))
            onnx.helper.set_model_props(written, about)
            onnx.save(written, str(path))
            onnx.checker.check_model(str(path), full_check=True)
    except OSError as error:
        raise ExportError(
            f"{path.parent} cannot be written to ({error.strerror or _line(error)}): make room, or "
            "choose another place."
        ) from error
    except Exception as error:
        raise ExportError(
            f"the model cannot be written as ONNX (opset {OPSET}; its forward pass must not branch "
            f"on values): {_line(error)}"
        ) from error


def _dims(inputs: Inputs, *, of_tokens: bool) -> Any:
    """Which dimensions may be of any size: rows, and of tokens how many are read and written."""
    rows, read, written = (
        torch.export.Dim("batch", min=1),
        torch.export.Dim("length", min=2),
        torch.export.Dim("decoder_length", min=2),
    )
    if isinstance(inputs, Tensor):
        return {0: rows, 1: read} if of_tokens else {0: rows}
    return {
        name: {0: rows}
        | ({1: written if name.startswith("decoder_") else read} if of_tokens else {})
        for name in inputs
    }


def _compare(path: Path, inputs: Inputs, expected: Tensor, tolerance: float) -> Parity:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]

        def answer(some: Inputs) -> Tensor:
            tensors = {names[0]: some} if isinstance(some, Tensor) else some
            feed = {name: tensors[name].cpu().numpy() for name in names}
            return torch.from_numpy(session.run(None, feed)[0])

        return compared(answer, inputs, expected, tolerance)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            "ONNX Runtime cannot run the exported file on batches of 1 to "
            f"{len(expected)} examples (is the batch size fixed in the model?): {_line(error)}"
        ) from error


def _answers(observed: Observed, examples: Batch) -> Tensor:
    device = next((p.device for p in observed.parameters()), torch.device("cpu"))
    try:
        with evaluating(observed), torch.no_grad():
            logits = observed(examples.to(device)).logits.double().cpu()
    except Exception as error:
        raise ExportError(
            "the model cannot answer these examples: give real ones of the data, and a model in "
            f"float32 (model.float()): {_line(error)}"
        ) from error
    if logits.ndim not in (2, 3) or not bool(logits.isfinite().all()):
        raise ExportError(
            f"the model answers with logits of shape {tuple(logits.shape)}"
            f"{'' if bool(logits.isfinite().all()) else ' that are NaN or infinite'}: finite "
            "logits (N, C) or (N, T, C) can be exported."
        )
    return logits  # type: ignore[no-any-return]


def _about(inputs: Inputs, names: Sequence[str], source: str) -> dict[str, str]:
    from importlib.metadata import version

    named = {"inputs": inputs} if isinstance(inputs, Tensor) else inputs
    images = isinstance(inputs, Tensor) and inputs.ndim == 4
    facts: dict[str, Any] = {
        "classes": list(names),
        "input_range": [0, 1] if images else None,
        "input_shape": {name: list(tensor.shape[1:]) for name, tensor in named.items()},
        "input_dtype": {name: str(t.dtype).removeprefix("torch.") for name, t in named.items()},
        "version": version("tutelage"),
    }
    written = {f"tutelage.{key}": json.dumps(value) for key, value in facts.items()}
    return {**written, "tutelage.source": source}


def _rows(inputs: Inputs, rows: slice) -> Inputs:
    return _map(inputs, lambda t: t[rows])


def _map(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    if isinstance(inputs, Tensor):
        return change(inputs.cpu())
    return {name: change(tensor.cpu()) for name, tensor in inputs.items()}


def _length(inputs: Inputs) -> int:
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))


def _line(error: Exception) -> str:
    """The first line of an error that says something, and its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__ or error.__context__
    if cause is not None and isinstance(cause, Exception) and "Failed to export" in str(error):
        return _line(cause)
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
