"""Which of a run's files is shipped as ``student.onnx``, and in what numbers its weights are."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import ExportError

COMPRESSED = "shipped.onnx"
"""The compressed file that a recipe chose, in a run's folder; shipped where it is there."""

STUDENT = "student.onnx"
"""The student in full, as it was trained; also the name of what is shipped."""

_KINDS = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT8": "int8",
    "UINT8": "int8",
    "INT4": "int4",
    "UINT4": "int4",
}


@dataclass(frozen=True)
class Shipped:
    """The file that a package ships.

    Attributes:
        path: In the run's folder.
        numbers: What most of its weights are: ``float32``, ``float16``, ``int8`` ...
        bytes: Its size.
        told: What `told_of` says of a compressed file; empty where the report says nothing.
    """

    path: Path
    numbers: str
    bytes: int
    told: str = ""

    @property
    def compressed(self) -> bool:
        """Whether it is another file than the one that was trained and measured as the student."""
        return self.path.name == COMPRESSED

    @property
    def facts(self) -> dict[str, Any]:
        """As plain data, for a package's papers."""
        return {
            "file": STUDENT,
            "numbers": self.numbers,
            "from": self.path.name,
            "compressed": self.compressed,
        }

    @property
    def words(self) -> str:
        """What a reader must know of it, in a sentence or two."""
        if not self.compressed:
            return f"student.onnx is the student as it was trained and measured ({self.numbers})."
        return (
            f"student.onnx is not the student as it was trained but its compressed file "
            f"({self.numbers}, {self.bytes:,} bytes).{self.told} Figures of “student” are of the "
            "student before compression, except where report.json says that they are of the "
            "shipped file."
        )


def shipped(folder: Path, report: Mapping[str, Any] | None = None) -> Shipped:
    """What a package of a run's folder ships: the compressed file, or else the student.

    Args:
        folder: The run's.
        report: Its ``report.json``, for what the compressed file reached.

    Raises:
        ExportError: It is no ONNX file.
    """
    path = folder / COMPRESSED
    path = path if path.is_file() else folder / STUDENT
    told = told_of(report) if report is not None and path.name == COMPRESSED else ""
    return Shipped(path, numbers_of(path), path.stat().st_size, told)


def sweep_of(report: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The point that a recipe's ``compress`` chose, and its figures on the test examples.

    Example:
        >>> sweep_of({"compression": None}) is None
        True
    """
    sweep = report.get("compression")
    if not isinstance(sweep, dict) or sweep.get("test") is None:
        return None
    return next(p for p in sweep["points"] if p["name"] == sweep["chosen"]), sweep["test"]


def told_of(report: Mapping[str, Any]) -> str:
    """A sentence about the compressed file on the test examples, or nothing."""
    found = sweep_of(report)
    if found is None:
        return ""
    (point, test), told = found, []
    for role, each in test["against"].items():
        change = {key: 100 * each["accuracy_change"][key] for key in ("mean", "low", "high")}
        told.append(
            f"{change['mean']:+.1f} points ({change['low']:+.1f} to {change['high']:+.1f}) against "
            f"the {role}"
        )
    right, took = test["accuracy"]["mean"], point["latency_ms"]["p50"]
    return (
        f" On {test['examples']:,} test examples it is right {right:.1%} of the time, "
        f"{', '.join(told)}; {took:.3g} ms an answer (ONNX Runtime, one thread, on the machine of "
        "the run)."
    )


def numbers_of(path: Path) -> str:
    """What most weights of an ONNX file are: ``float32``, ``float16``, ``int8`` ...

    Raises:
        ExportError: It is no ONNX file.
    """
    import onnx
    from onnx.external_data_helper import _get_all_tensors

    counts: Counter[str] = Counter()
    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in _get_all_tensors(model):
            kind = _KINDS.get(onnx.TensorProto.DataType.Name(tensor.data_type))
            if kind is not None:
                counts[kind] += math.prod(tensor.dims)
    except Exception as error:  # protobuf's own classes differ by version
        line = " ".join(str(error).split())[:160]
        raise ExportError(f"{path} cannot be loaded: {line}: run the recipe again.") from error
    return max(counts, key=lambda kind: counts[kind]) if counts else "float32"
