"""The formats that a model is exported to, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tutelage.core.errors import ExportError, ModelError, suggest
from tutelage.deployment.formats.file_model import FileModel


@dataclass(frozen=True)
class Format:
    """One kind of exported file.

    Attributes:
        name: What it is called on the command line.
        file: How the file is called, after the model's name.
        extra: What has to be installed: ``pip install "tutelage[EXTRA]"``; None where nothing.
        reader: Module and function that open such a file; None for ONNX, which has its own, and
            for GGUF, whose runtime is llama.cpp.
    """

    name: str
    file: str
    extra: str | None = None
    reader: tuple[str, str] | None = None


_ROOM = "tutelage.deployment.formats"
_IR = (f"{_ROOM}.openvino", "open_openvino")

FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("onnx", ".onnx"),
        Format("openvino", ".xml", "openvino", _IR),
        Format("openvino_int8", "-int8.xml", "openvino", _IR),
        Format("torch", ".pt2", None, (f"{_ROOM}.torch_program", "open_program")),
        Format("executorch", ".pte", "edge", (f"{_ROOM}.executorch_file", "open_executorch")),
        Format("gguf", ".gguf", "hf"),
        Format("gguf_f16", "-f16.gguf", "hf"),
        Format("gguf_bf16", "-bf16.gguf", "hf"),
        Format("gguf_q8_0", "-q8_0.gguf", "hf"),
    )
}
"""All of them."""

SUFFIXES = tuple(
    sorted({Path(f"x{one.file}").suffix for one in FORMATS.values() if "gguf" not in one.name})
)
"""Of files that hold a whole model and answer here: ``.onnx``, ``.pt2``, ``.pte``, ``.xml``."""


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        ExportError: There is none; the nearest name is told.

    Example:
        >>> format_named("openvino").extra
        'openvino'
    """
    if name not in FORMATS:
        raise ExportError(f"there is no format {name!r:.80} to export to. {suggest(name, FORMATS)}")
    return FORMATS[name]


def open_file(path: str | Path) -> FileModel:
    """Open a file of any of these formats but ONNX, by the end of its name.

    A ``.pt2`` file is opened by torch, which trusts what it reads: open only your own.

    Raises:
        ModelError: There is no such file, or its runtime cannot open it.
        NotInstalled: The runtime is not there; the line says what to install.
    """
    path = Path(path)
    for one in FORMATS.values():
        if one.reader is not None and path.suffix == Path(f"x{one.file}").suffix:
            if not path.is_file():
                raise ModelError(f"there is no file {str(path)!r}: check its path.")
            module, function = one.reader
            opener: Callable[[Path], FileModel] = getattr(import_module(module), function)
            return opener(path)
    raise ModelError(f"{path} is of no known format: its name ends with none of {SUFFIXES}.")
