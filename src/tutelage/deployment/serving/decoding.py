"""Bodies of requests to arrays: JSON and ``.npy``. Images are in `images`."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tutelage.core.errors import DataError
from tutelage.deployment.raw_rows import encode
from tutelage.deployment.serving.model import Stated
from tutelage.deployment.serving.refused import Refused


@dataclass(frozen=True)
class Asked:
    """What a request wants.

    Attributes:
        inputs: By name, as they came: not yet checked.
        logits: Whether logits are answered too.
        top: How many probabilities are answered; None for all of them, or 5 where there are
            more than 20 classes.
    """

    inputs: Mapping[str, np.ndarray]
    logits: bool = False
    top: int | None = None


def read_json(
    body: bytes, inputs: Mapping[str, Stated], columns: Sequence[Mapping[str, Any]] = ()
) -> Asked:
    """``{"inputs": ..., "logits": true, "top": 3}``, the last two as one likes.

    Models of tables take raw rows too, as they stand in a file: ``{"rows": [{column: cell}]}``.

    Raises:
        Refused: 400 for what is no JSON; 422 for what is something else.

    Example:
        >>> asked = read_json(b'{"inputs": [1, 2], "top": 1}', {"x": Stated((2,), "float32", None)})
        >>> asked.inputs["x"].tolist(), asked.top
        ([1, 2], 1)
    """
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except RecursionError as error:
        raise Refused(400, "the JSON is nested too deep.") from error
    except ValueError as error:
        raise Refused(400, f"the body is no JSON: {str(error)[:100]}.") from error
    what = "rows" if columns and isinstance(found, dict) and "rows" in found else "inputs"
    if not isinstance(found, dict) or what not in found:
        rows = ', or {"rows": [{column: cell}]}' if columns else ""
        raise Refused(
            422, f'send {{"inputs": ...}}: nested lists, or {{name: nested lists}}{rows}.'
        )
    other = sorted(set(found) - {what, "logits", "top"})
    if other:
        raise Refused(422, f"{other[0]!r:.60} is not known: {what}, logits and top are.")
    given, names = found[what], sorted(inputs)
    if what == "rows":
        given = _encoded(given, columns)
    if not isinstance(given, dict):
        if len(names) > 1:
            raise Refused(422, f"the model takes {', '.join(names)}: send them by name.")
        given = {names[0]: given}
    logits = found.get("logits", False)
    if not isinstance(logits, bool):
        raise Refused(422, "logits is true or false.")
    return Asked({str(k): _array(str(k), v) for k, v in given.items()}, logits, _top(found))


def read_npy(body: bytes, inputs: Mapping[str, Stated]) -> Asked:
    """An array as ``numpy.save`` writes it; stored bytes of images are brought to their range.

    Raises:
        Refused: 400 for what is no whole ``.npy``, 422 for objects or a model of several inputs.
    """
    if len(inputs) != 1:
        raise Refused(422, f"the model takes {', '.join(sorted(inputs))}: send JSON by name.")
    ((name, stated),) = inputs.items()
    file = io.BytesIO(body)
    try:
        major = np.lib.format.read_magic(file)[0]
        read = (
            np.lib.format.read_array_header_1_0
            if major == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file, max_header_size=4096)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise Refused(400, "the body is no .npy file: write it with numpy.save.") from error
    if dtype.hasobject or dtype.kind not in "fiub":
        raise Refused(422, f"an array of {dtype} is not taken: send numbers.")
    count, left = 1, len(body) - file.tell()
    for size in shape:
        count *= size
    if count * dtype.itemsize != left or min(shape, default=0) < 0:
        raise Refused(400, f"the .npy file has {left} bytes of numbers, its header says otherwise.")
    flat = np.frombuffer(body, dtype, count=count, offset=file.tell())
    array = flat.reshape(shape, order="F" if fortran else "C")
    return Asked({name: from_bytes(array, stated)})


def from_bytes(array: np.ndarray, stated: Stated) -> np.ndarray:
    """Stored bytes (uint8) as float32 from 0 to 1, where that is what the model takes."""
    if array.dtype == np.uint8 and stated.range == (0, 1) and stated.dtype.startswith("float"):
        return array.astype(np.float32) / np.float32(255)
    return array


def options(query: bytes) -> tuple[bool, int | None]:
    """``logits=1&top=3`` of an address.

    >>> options(b"logits=1&top=3")
    (True, 3)
    """
    from urllib.parse import parse_qsl

    pairs = dict(parse_qsl(query.decode("latin-1"), max_num_fields=10))
    other = sorted(set(pairs) - {"logits", "top"})
    if other:
        raise Refused(422, f"{other[0]!r:.60} is not known: logits and top are.")
    asked: dict[str, Any] = {"top": int(pairs["top"])} if pairs.get("top", "").isdigit() else {}
    if "top" in pairs and not asked:
        raise Refused(422, "top is a whole number of 1 or more.")
    return pairs.get("logits", "0") in ("1", "true"), _top(asked)


def _encoded(rows: Any, columns: Sequence[Mapping[str, Any]]) -> np.ndarray:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refused(422, "rows is a list of objects: [{column: cell}].")
    try:
        return encode(rows, columns)
    except DataError as error:
        raise Refused(422, str(error)) from error


def _top(found: Mapping[str, Any]) -> int | None:
    top = found.get("top")
    if top is not None and (type(top) is not int or top < 1):
        raise Refused(422, "top is a whole number of 1 or more.")
    return top


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Refused(422, f"{name:.60} is no even block of numbers: lists differ.") from error
    if array.dtype.kind not in "fiub":
        raise Refused(422, f"{name:.60} holds something that is no number.")
    return array


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON knows")
