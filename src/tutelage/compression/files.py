"""ONNX files on their way: prepared for quantisation, and named only when they are whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.core.errors import ExportError
from tutelage.core.quiet import quietly


@contextmanager
def prepared(source: Path) -> Iterator[Path]:
    """``source`` optimised and with its shapes inferred, in a folder that is gone afterwards.

    Where symbolic shapes cannot be inferred (recurrent networks), ONNX's own inference is used.
    """
    with tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
        path = Path(folder) / "prepared.onnx"
        error = _prepare(source, path, symbolic=True)
        if error is not None:
            error = _prepare(source, path, symbolic=False)
        if error is not None:
            said = " ".join(str(error).split())[:200]
            raise ExportError(
                f"{source.name} cannot be prepared for quantisation: {said}"
            ) from error
        yield path


def _prepare(source: Path, to: Path, *, symbolic: bool) -> Exception | None:
    """Write the file, or give back why it cannot be."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with quietly():
            quant_pre_process(source, to, skip_symbolic_shape=not symbolic)
    except Exception as error:  # it raises whatever it meets
        return error
    return None


@contextmanager
def written(source: Path, target: Path, *, replace: bool) -> Iterator[Path]:
    """A name beside ``target`` to write to; it becomes ``target`` if the block ends well.

    Raises:
        ExportError: ``target`` exists and may not be replaced, is the source, or cannot be
            written.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise ExportError(f"{target} is the source itself: name another file to write.")
    if target.exists() and not replace:
        raise ExportError(f"{target} exists: name another file, or say replace=True.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError(21, "Is a directory")
            temporary.touch()
        except OSError as error:
            raise ExportError(f"{target} cannot be written: {error.strerror}.") from error
        yield temporary
        temporary.replace(target)
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def copy_words(source: Path, to: Path) -> None:
    """Write the metadata of one ONNX file into another."""
    import onnx

    words = {each.key: each.value for each in onnx.load(str(source)).metadata_props}
    model = onnx.load(str(to))
    onnx.helper.set_model_props(model, words)
    onnx.save(model, str(to))
