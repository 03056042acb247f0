"""``ServedModel``: a package that was checked, in memory, ready to answer. No torch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.core.errors import DataError, PackageError
from tutelage.deployment.loading import KINDS, answers
from tutelage.deployment.manifest import (
    MANIFEST,
    MODELS,
    SIGNATURE,
    check_file,
    parsed,
    read_manifest,
)
from tutelage.deployment.raw_rows import check_columns
from tutelage.deployment.serving.exits import Exits, read_exits
from tutelage.deployment.signature import check_signature
from tutelage.deployment.unpacking import opened

# Their scales are taken over the whole batch: a neighbour's input would change the answer.
_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}


@dataclass(frozen=True)
class Stated:
    """What one input of one example must be.

    Attributes:
        shape: Of one example.
        dtype: NumPy's name.
        range: Least and largest value; None where nothing is stated.
    """

    shape: tuple[int, ...]
    dtype: str
    range: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that answers.

    Attributes:
        name: Of the run it came from.
        digest: SHA-256 of its manifest, 64 hexadecimal digits.
        labels: The name of each logit.
        inputs: What it takes, by name.
        alone: Whether examples are run one by one, because a batch would change the answers
            (dynamic quantisation) or the file takes one example alone.
        packed: When it was packed, ``2026-01-31``.
        columns: How raw rows of a table become its input; empty where it takes no table.
    """

    name: str
    digest: str
    labels: tuple[str, ...]
    inputs: Mapping[str, Stated]
    alone: bool
    packed: str
    columns: tuple[Mapping[str, Any], ...]
    _session: Any
    _exits: Exits

    @property
    def version(self) -> str:
        """The first twelve digits of the digest."""
        return self.digest[:12]

    @staticmethod
    def load(package: str | Path, *, key: Path | None = None, threads: int = 1) -> "ServedModel":
        """Check a package as `tutelage.deployment.verify.verify` does, and load its ONNX file.

        The safetensors file is held to its checksum alone: opening it takes torch, and serving
        does not use it.

        Args:
            package: A ``.zip`` or a folder.
            key: What it must be signed with; None asks for no signature.
            threads: Of ONNX Runtime within one run.

        Raises:
            PackageError: With the first thing that is wrong.
            RecipeError: There is no package, or no such key.
            NotInstalled: A PEM key was given without the package ``cryptography``.
        """
        with opened(Path(package)) as folder:
            content = (folder / MANIFEST).read_bytes()
            manifest = read_manifest(content)
            if key is not None:
                _signed(folder, content, key)
            for name, facts in manifest["files"].items():
                check_file(folder / name, facts)
            stated = parsed((folder / "preprocessing.json").read_bytes(), "preprocessing.json")
            labels = _labels(folder)
            answers(folder / MODELS[0], stated, len(labels))
            graph = _unchanged(folder / MODELS[0], manifest["files"][MODELS[0]]["sha256"])
            session = _session(graph, threads)
            exits = read_exits(folder / MODELS[2], len(session.get_outputs()))
        return ServedModel(
            name=manifest["run"]["name"],
            digest=hashlib.sha256(content).hexdigest(),
            labels=labels,
            inputs={name: _stated(each) for name, each in stated["inputs"].items()},
            alone=_runs_alone(graph, session),
            packed=manifest["date"],
            columns=_columns(stated),
            _session=session,
            _exits=exits,
        )

    def answer(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(N, C)`` of N examples: after temperature, exits and order of classes.

        Args:
            inputs: By name, ``(N, *shape)`` each, of the stated type.
        """
        count = len(next(iter(inputs.values())))
        if not self.alone or count == 1:
            return self._run(inputs)
        rows = range(count)
        return np.concatenate(
            [self._run({k: v[i : i + 1] for k, v in inputs.items()}) for i in rows]
        )

    def example(self) -> dict[str, np.ndarray]:
        """One example of zeros, to warm up with."""
        return {k: np.zeros((1, *each.shape), each.dtype) for k, each in self.inputs.items()}

    def _run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._exits.apply(self._session.run(None, dict(inputs)))


def _signed(folder: Path, content: bytes, key: Path) -> None:
    path = folder / SIGNATURE
    if not path.is_file():
        raise PackageError(f"there is no {SIGNATURE}: the package is unsigned, a key was given.")
    check_signature(content, parsed(path.read_bytes(), SIGNATURE), key)


def _labels(folder: Path) -> tuple[str, ...]:
    found = parsed((folder / "labels.json").read_bytes(), "labels.json").get("labels")
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise PackageError("labels.json: labels is no list of texts.")
    if len(set(found)) != len(found):
        raise PackageError("labels.json names a label twice: answers go by labels.")
    return tuple(found)


def _columns(stated: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    columns = stated.get("columns")
    if columns is None:
        return ()
    try:
        check_columns(columns)
    except DataError as error:
        raise PackageError(f"preprocessing.json: {error}") from error
    return tuple(columns)


def _unchanged(path: Path, sha256: str) -> bytes:
    """The bytes that are loaded are those that were checked, whatever happens to the folder."""
    graph = path.read_bytes()
    if hashlib.sha256(graph).hexdigest() != sha256:
        raise PackageError(f"{path.name} was changed while it was loaded.")
    return graph


def _session(graph: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _stated(each: Mapping[str, Any]) -> Stated:
    span = each.get("range")
    good = isinstance(span, list) and len(span) == 2 and all(type(v) in (int, float) for v in span)
    if span is not None and not good:
        raise PackageError(f"preprocessing.json: the range is {span!r:.80}, no two numbers.")
    return Stated(tuple(each["shape"]), each["dtype"], (span[0], span[1]) if span else None)


def _runs_alone(graph: bytes, session: Any) -> bool:
    import onnx

    model = onnx.load_from_string(graph)
    kinds = {node.op_type for node in model.graph.node}
    kinds |= {node.op_type for part in model.functions for node in part.node}
    fixed = any(isinstance(each.shape[0], int) for each in session.get_inputs())
    assert all(each.type in KINDS for each in session.get_inputs())  # `answers` has seen to it
    return fixed or bool(kinds & _DYNAMIC)
