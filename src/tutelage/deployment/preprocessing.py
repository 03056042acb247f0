"""``preprocessing.json`` and ``labels.json``: what goes into a shipped model, what comes out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import ExportError
from tutelage.deployment.loading import KINDS

_IMAGE = (
    "Raw images, channels first, float32 from 0 to 1: divide stored bytes (uint8) by 255. "
    "Normalisation, and any change of size or channels that the network needs, are inside "
    "student.onnx: do not normalise."
)
_OTHER = (
    "What the data source gave in the run. What it did to stored values before (one-hot codes, "
    "means and deviations of the training rows) is not inside student.onnx and not in this "
    "package: do the same to new rows."
)
_WEIGHTS = (
    "student.safetensors holds the network's weights alone: normalisation is not in it, and needs "
    "the network's code."
)


def preprocessing(model: Path, labels: Sequence[str], temperature: float | None) -> dict[str, Any]:
    """What a caller must do with raw inputs, and what is done inside the file, read from it.

    Args:
        model: ``student.onnx``, as `tutelage.deployment.export_onnx` wrote it.
        labels: Names of the classes.
        temperature: What the student's logits are divided by; None where it is not calibrated.

    Returns:
        ``inputs`` (by name: ``shape`` of one example, ``dtype``, ``range``), ``output``,
        ``temperature`` and sentences for people.

    Raises:
        ExportError: The file does not say what it takes, or is of other classes.
    """
    words, takes, gives = _read(model)
    shapes, span = _json(words, "input_shape"), _json(words, "input_range")
    if not isinstance(shapes, dict) or set(shapes) != set(takes):
        raise ExportError(
            f"{model} does not say what shape its inputs have: ship one that tutelage exported."
        )
    if _json(words, "classes") != list(labels):
        raise ExportError(f"{model} is of other classes than the report beside it: run it again.")
    return {
        "inputs": {
            name: {"shape": shapes[name], "dtype": KINDS.get(takes[name]), "range": span}
            for name in takes
        },
        "batch": "first axis, any size",
        "layout": "NCHW" if span else None,
        "what_to_do": _IMAGE if span else _OTHER,
        "weights": _WEIGHTS,
        "output": {"names": gives, "what": "logits; softmax gives confidence; see labels.json"},
        "temperature": _temperature(temperature),
    }


def labels_file(labels: Sequence[str]) -> dict[str, Any]:
    """The content of ``labels.json``: the name of each logit, in order."""
    return {"labels": list(labels)}


def _temperature(value: float | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {
        "value": value,
        "student.onnx": "divides its logits by it already: do not divide again",
        "student.safetensors": "divide the network's logits by it",
    }


def _read(model: Path) -> tuple[Mapping[str, str], dict[str, str], list[str]]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for every kind
        line = " ".join(str(error).split())[:160]
        raise ExportError(f"{model} cannot be loaded: {line}: run the recipe again.") from error
    takes = {each.name: each.type for each in session.get_inputs()}
    gives = [each.name for each in session.get_outputs()]
    return session.get_modelmeta().custom_metadata_map, takes, gives


def _json(words: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(words.get(f"tutelage.{key}", "null"))
    except ValueError:
        return None
