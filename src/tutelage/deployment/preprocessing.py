"""``preprocessing.json`` and ``labels.json``: what goes into a shipped model, what comes out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, ExportError
from tutelage.deployment.loading import KINDS
from tutelage.deployment.raw_rows import check_columns
from tutelage.deployment.shipped import Shipped

STORED = "stored.json"
"""In a run's folder: what the data source did to stored examples, as plain data."""

_IMAGE = (
    "Raw images, channels first, float32 from 0 to 1: divide stored bytes (uint8) by 255. "
    "Normalisation, and any change of size or channels that the network needs, are inside "
    "student.onnx: do not normalise. An image file of another size is scaled (bilinear) until it "
    "covers the stated height and width, and cropped around its centre: "
    "tutelage.deployment.raw_images.decode does so."
)
_ROWS = (
    "Rows of a table: each column becomes numbers as `columns` says, with means, deviations and "
    "categories of the training rows, one column after the other: "
    "tutelage.deployment.raw_rows.encode does so (numpy alone). This is not inside student.onnx."
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


def preprocessing(
    model: Path,
    labels: Sequence[str],
    temperature: float | None,
    *,
    ships: Shipped,
    stored: Mapping[str, Any],
    weights: bool,
) -> dict[str, Any]:
    """What a caller must do with raw inputs, and what is done inside the file, read from it.

    Args:
        model: What is shipped as ``student.onnx``; tutelage wrote it.
        labels: Names of the classes.
        temperature: What the student's logits are divided by; None where it is not calibrated.
        ships: Which file that is.
        stored: What the data source did to stored examples (`tutelage.data.Splits.stored`).
        weights: Whether ``student.safetensors`` is shipped too.

    Returns:
        ``model``, ``inputs`` (by name: ``shape`` of one example, ``dtype``, ``range``),
        ``columns`` of a table or None, ``output``, ``temperature`` and sentences for people.

    Raises:
        ExportError: The file does not say what it takes, or is of other classes, or the columns
            make another number of features than it takes.
    """
    words, takes, gives = _read(model)
    shapes, span = _json(words, "input_shape"), _json(words, "input_range")
    if not isinstance(shapes, dict) or set(shapes) != set(takes):
        raise ExportError(
            f"{model} does not say what shape its inputs have: ship one that tutelage exported."
        )
    if _json(words, "classes") != list(labels):
        raise ExportError(f"{model} is of other classes than the report beside it: run it again.")
    columns = stored.get("columns")
    if columns is not None:
        _check_columns(columns, shapes)
    return {
        "model": ships.facts,
        "inputs": {
            name: {"shape": shapes[name], "dtype": KINDS.get(takes[name]), "range": span}
            for name in takes
        },
        "batch": "first axis, any size",
        "layout": "NCHW" if span else None,
        "what_to_do": _what_to_do(stored, bool(span)),
        "columns": columns,
        **({"weights": _WEIGHTS} if weights else {}),
        "output": {"names": gives, "what": "logits; softmax gives confidence; see labels.json"},
        "temperature": _temperature(temperature, weights),
    }


def labels_file(labels: Sequence[str], ships: Shipped) -> dict[str, Any]:
    """The content of ``labels.json``: the name of each logit, in order, and of which model."""
    return {"labels": list(labels), "model": f"student.onnx ({ships.numbers})"}


def _what_to_do(stored: Mapping[str, Any], images: bool) -> str:
    if images:
        return _IMAGE
    if "columns" in stored:
        return _ROWS
    return str(stored.get("treatment", _OTHER))


def _check_columns(columns: Any, shapes: Mapping[str, Any]) -> None:
    try:
        made = check_columns(columns)
    except DataError as error:
        raise ExportError(f"the run's account of its data is broken: {error}") from error
    if list(shapes.values()) != [[made]]:
        raise ExportError(
            f"the data's columns make {made} features, and the model takes "
            f"{', '.join(map(str, shapes.values()))}: run the recipe again."
        )


def _temperature(value: float | None, weights: bool) -> dict[str, Any] | None:
    if value is None:
        return None
    found: dict[str, Any] = {
        "value": value,
        "student.onnx": "divides its logits by it already: do not divide again",
    }
    return found | ({"student.safetensors": "divide the network's logits by it"} if weights else {})


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
