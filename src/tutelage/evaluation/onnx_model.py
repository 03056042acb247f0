"""An ONNX file that answers batches, as a torch model does."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ModelError, NotInstalled, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.evaluation.costs.onnx_macs import onnx_macs


class OnnxModel:
    """A classifier in an ONNX file, run by ONNX Runtime on the CPU.

    Inputs are what the file takes: as `tutelage.deployment.export_onnx` writes it, the data's own
    (images in [0, 1], not normalised). The first output is taken for logits ``(N, C)``.

    Args:
        path: The file; it is read once.
        classes: For each class of the data, the number the file gives it; None where they agree.
        threads: How many threads an operation may use; 0 leaves it to ONNX Runtime.

    Attributes:
        path: The file.
        names: The classes in the file's order, where it says them; else empty.
        parameters: Numbers in its weights.
        bytes: Of its weights.

    Raises:
        ModelError: There is no such file, or ONNX Runtime cannot load it.
    """

    format = "onnx"
    backend = "onnxruntime"

    def __init__(self, path: str | Path, *, classes: list[int] | None = None, threads: int = 1):
        self.path = Path(path)
        self._session = _session(self.path, threads)
        self._inputs = {each.name: each.shape for each in self._session.get_inputs()}
        self._half = {e.name for e in self._session.get_inputs() if e.type == "tensor(float16)"}
        self._output = self._session.get_outputs()[0].name
        words = self._session.get_modelmeta().custom_metadata_map
        self.names = tuple(_listed(words.get("tutelage.classes", "[]")))
        self.parameters, self.bytes = _weights(self.path)
        self._classes = None if classes is None else torch.tensor(classes)

    def ordered(self, classes: list[int]) -> "OnnxModel":
        """The same file with its logits put in the data's order (see `class_order`)."""
        return OnnxModel(self.path, classes=classes)

    def macs(self) -> int:
        """Multiply-accumulates of one answer; see `onnx_macs`, and what it refuses to count."""
        return onnx_macs(self.path)

    def __call__(self, batch: Batch) -> Outputs:
        """The answer to ``batch``, with logits of float32 on the CPU.

        Raises:
            ShapeMismatch: The examples are not of the shape, or not so many, as the file takes.
        """
        feed = self.feed(batch.inputs)
        try:
            (found,) = self._session.run([self._output], feed)
        except Exception as error:  # ONNX Runtime has a class of its own for every kind
            raise ShapeMismatch(
                f"{self.path.name} cannot answer {len(batch)} examples of "
                f"{_shapes(feed)}; it takes {self._takes()}: {_line(error)}"
            ) from error
        logits = torch.from_numpy(found).float()
        if logits.ndim not in (2, 3) or len(logits) != len(batch):
            raise ShapeMismatch(
                f"{self.path.name} answers {len(batch)} examples with {tuple(logits.shape)}: "
                "logits (N, C), one row an example, are needed of its first output (or (N, T, C))."
            )
        return Outputs(logits if self._classes is None else logits.index_select(-1, self._classes))

    def ready(self, inputs: Inputs, threads: int) -> Callable[[], object]:
        """One call that answers these inputs in a session of so many threads, and throws it away.

        Raises:
            ShapeMismatch: The file does not take them.
        """
        feed, session = self.feed(inputs), _session(self.path, threads)
        return lambda: session.run(None, feed)

    def feed(self, inputs: Inputs) -> dict[str, Any]:
        """The inputs as arrays by the file's names; in half where the file takes half.

        Raises:
            ShapeMismatch: The names or shapes are not the file's.
        """
        names = list(self._inputs)
        given = {names[0]: inputs} if isinstance(inputs, Tensor) else dict(inputs)
        if set(given) != set(names):
            raise ShapeMismatch(
                f"{self.path.name} takes {', '.join(names)}, and the data has "
                f"{', '.join(given) if not isinstance(inputs, Tensor) else 'one input'}: export "
                "the model with the inputs that the data has."
            )
        for name, tensor in given.items():
            if not _fits(tuple(tensor.shape[1:]), self._inputs[name][1:]):
                raise ShapeMismatch(
                    f"{self.path.name} takes {self._takes()}, and the examples are "
                    f"{_shape(tensor.shape[1:])}: give data of that shape, or another file."
                )
        return {name: self._array(name, tensor) for name, tensor in given.items()}

    def _array(self, name: str, tensor: Tensor) -> Any:
        half = name in self._half and tensor.dtype == torch.float32
        return tensor.detach().cpu().to(torch.float16 if half else tensor.dtype).numpy()

    def _takes(self) -> str:
        return ", ".join(f"{name} {_shape(shape[1:])}" for name, shape in self._inputs.items())


def _fits(found: tuple[int, ...], wanted: list[int | str]) -> bool:
    """Whether a shape is one that the file takes; a size it names by a word may be any."""
    if len(found) != len(wanted):
        return False
    sizes = zip(found, wanted, strict=True)
    return all(not isinstance(want, int) or want == have for have, want in sizes)


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise NotInstalled("ONNX files need ONNX Runtime: pip install onnxruntime.") from error
    if not path.is_file():
        raise ModelError(f"there is no ONNX file {str(path)!r}: check its path.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see above
        raise ModelError(
            f"{path} cannot be loaded by ONNX Runtime: {_line(error)}: name a whole ONNX file."
        ) from error


def _weights(path: Path) -> tuple[int, int]:
    """How many numbers the file's weights hold, and their bytes."""
    import onnx

    graph = onnx.load(os.fspath(path), load_external_data=False).graph
    sizes = [(math.prod(t.dims), _width(t.data_type)) for t in graph.initializer]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    small = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.BFLOAT16)
    learned = [math.prod(t.dims) for t in graph.initializer if t.data_type in (*floats, *small)]
    return sum(learned), sum(count * width for count, width in sizes)


def _width(kind: int) -> int:
    import onnx

    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _listed(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def _shapes(feed: dict[str, Any]) -> str:
    return ", ".join(_shape(array.shape[1:]) for array in feed.values())


def _shape(sizes: Any) -> str:
    return f"({', '.join(map(str, sizes))})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
