"""A model as an ExecuTorch program: a ``.pte`` file for phones and boards, run by XNNPACK.

Source: https://docs.pytorch.org/executorch/stable/getting-started.html
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import dumps, loads
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, ModelError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.deployment.export import _about, _line, _Shipped
from tutelage.deployment.formats.file_model import Call, FileModel, Opened
from tutelage.deployment.formats.kept import expected_of, keep_checked, same_answers
from tutelage.deployment.formats.resize import fix_sizes
from tutelage.deployment.formats.torch_program import traced
from tutelage.deployment.parity import Parity
from tutelage.models.observed import Frozen, Observed

WHAT = "the ExecuTorch file"
MOST = 32
"""Examples that a file takes at once where nothing else is said: its memory is planned so."""

_WORDS = "tutelage_about"  # a method that returns what is written into the file
_CHILD = Path(__file__).with_name("executorch_child.py")
_TRACED = 17  # torch takes another way for convolutions under 16, and notes it as a bound


def export_executorch(
    model: Observed | Frozen,
    examples: Batch,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    tolerance: float = 1e-4,
    most: int = MOST,
) -> Parity:
    """Write a model with its intake as a ``.pte`` file, and keep it only if it is the model.

    The method ``forward`` takes the data's own inputs, in the order of the data where there are
    several, for 1 to ``most`` examples. What XNNPACK has a kernel for is left to it.

    Args:
        model: The model with its intake and order of classes.
        examples: Real examples of the data, a few dozen; the labels are not used.
        path: Where the file goes; an older one is replaced only by a good one.
        names: Class names, written into the file (method ``tutelage_about``).
        source: What this model is and where it came from, written into the file.
        tolerance: Largest difference allowed, as a share of the largest logit.
        most: Examples that the file's memory is planned for; 17 or more.

    Returns:
        What the comparison found.

    Raises:
        ExportError: The model cannot be converted, or the file does not compute the same.
        NotInstalled: ExecuTorch is not there.
    """
    if most < _TRACED:
        raise ExportError(f"most is {most}, and at least {_TRACED} is needed.")
    observed, expected = expected_of(model, examples, tuple(names))
    _installed()
    about = _about(examples.inputs, names, source)

    def write(made: Path) -> None:
        _write(observed, examples, about, most, made)

    def check(made: Path) -> Parity:
        return same_answers(open_executorch(made), examples.inputs, expected, tolerance, WHAT)

    return keep_checked(Path(path), write, check, WHAT)


def _write(
    observed: Observed, examples: Batch, about: dict[str, str], most: int, made: Path
) -> None:
    """Trace here, lower in a child."""
    shipped, traced_file = _Shipped.of(observed), made.with_name("traced.pt2")
    fix_sizes(shipped, examples[:1].inputs)
    try:
        with quietly():
            program = traced(shipped, examples.inputs, rows=_TRACED, most=most)
            program.example_inputs = None
            torch.export.save(program, traced_file)
        done = subprocess.run(
            [sys.executable, "-P", str(_CHILD), str(traced_file), str(made)],
            input=dumps(about),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        traced_file.unlink(missing_ok=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ExportError(f"ExecuTorch cannot lower the model: {last[:200]}")


def open_executorch(path: Path) -> FileModel:
    """Open a ``.pte`` file; its threads are those of the whole process.

    Raises:
        ModelError: ExecuTorch cannot open it.
        NotInstalled: ExecuTorch is not there.
    """
    runtime, verification, library = _installed()
    try:
        with quietly(), _mute():
            program = runtime.get().load_program(path, verification=verification.Minimal)
            file = _File(program)
            about = _about_of(program)
            most = int(file.method().metadata.input_tensor_meta(0).sizes()[0])
    except Exception as error:  # everything is a RuntimeError
        raise ModelError(
            f"{path} cannot be loaded by ExecuTorch: {_line(error)}: name a whole .pte file with "
            "a method 'forward'."
        ) from error

    def prepared(feed: dict[str, Any], threads: int) -> Call:
        given = [torch.from_numpy(array) for array in feed.values()]
        with quietly(), _mute():
            _set_threads(library, threads)
            file.method()
        return lambda: file.method().execute(given)

    return FileModel(
        path,
        "executorch",
        Opened(
            prepared,
            lambda raw: raw[0].clone(),
            tuple(loads(about.get("tutelage.input_shape", "{}"))),
            about,
            most=most,
        ),
    )


class _File:
    """A program, and its method while the pool of threads is the one that it was loaded with."""

    def __init__(self, program: Any):
        self._program, self._method = program, None
        _OPEN.add(self)

    def method(self) -> Any:
        if self._method is None:
            self._method = self._program.load_method("forward")
        return self._method

    def forget(self) -> None:
        self._method = None


_OPEN: WeakSet[_File] = WeakSet()


def _set_threads(library: Any, threads: int) -> None:
    """For all files of this process: there is one pool, and methods point into it."""
    if library._threadpool_get_thread_count() != threads:
        for each in _OPEN:
            each.forget()  # before its pool is gone: answering with it would crash
        library._unsafe_reset_threadpool(threads)


def _about_of(program: Any) -> dict[str, str]:
    if _WORDS not in program.method_names:
        return {}
    words = program.load_method(_WORDS).execute([])[0]
    found = loads(bytes(words.tolist()).decode())
    return {str(key): str(value) for key, value in found.items()}


def _installed() -> tuple[Any, Any, Any]:
    try:
        with quietly(), _mute():
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime, Verification
    except ImportError as error:
        raise NotInstalled('.pte files need ExecuTorch: pip install "tutelage[edge]".') from error
    return Runtime, Verification, portable_lib


@contextmanager
def _mute() -> Iterator[None]:
    """Nothing that compiled code writes to standard error is seen; errors come back as errors."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
