"""An ExecuTorch program that answers batches.

Source: https://docs.pytorch.org/executorch/stable/runtime-python-api-reference.html
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import loads
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from tutelage.core.errors import ModelError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.deployment.export import _line
from tutelage.deployment.formats.file_model import Call, FileModel, Opened

WORDS = "tutelage_about"
"""A method that returns what is written into the file."""


def open_executorch(path: Path) -> FileModel:
    """Open a ``.pte`` file; its threads are those of the whole process.

    Raises:
        ModelError: ExecuTorch cannot open it.
        NotInstalled: ExecuTorch is not there.
    """
    runtime, check, library = _installed()
    try:
        with quietly(), _mute():
            content = path.read_bytes()
            file = _File(lambda: runtime.get().load_program(content, verification=check))
            program = file.program()
            about = _about_of(program)
            most = int(program.metadata("forward").input_tensor_meta(0).sizes()[0])
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
    """A program and its method, while the pool of threads is the one they were loaded with.

    ExecuTorch's ``Program`` keeps every method that it loaded (1.5.1), and a method of XNNPACK
    points into the pool: both go before the pool does, or the next answer ends the process.
    """

    def __init__(self, load: Callable[[], Any]):
        self._load = load
        self._program: Any = None
        self._method: Any = None
        _OPEN.add(self)

    def program(self) -> Any:
        """Loaded for one use: what its methods leave is not held."""
        return self._load()

    def method(self) -> Any:
        if self._method is None:
            self._program = self._load()
            self._method = self._program.load_method("forward")
        return self._method

    def forget(self) -> None:
        self._method = self._program = None


_OPEN: WeakSet[_File] = WeakSet()


def _set_threads(library: Any, threads: int) -> None:
    """For all files of this process: there is one pool, and methods point into it."""
    if library._threadpool_get_thread_count() != threads:
        for each in _OPEN:
            each.forget()  # before its pool is gone: answering with it would crash
        library._unsafe_reset_threadpool(threads)


def _about_of(program: Any) -> dict[str, str]:
    if WORDS not in program.method_names:
        return {}
    words = program.load_method(WORDS).execute([])[0]
    found = loads(bytes(words.tolist()).decode())
    return {str(key): str(value) for key, value in found.items()}


def _installed() -> tuple[Any, Any, Any]:
    try:
        with quietly(), _mute():
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime, Verification
    except ImportError as error:
        raise NotInstalled('.pte files need ExecuTorch: pip install "tutelage[edge]".') from error
    return Runtime, Verification.Minimal, portable_lib


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
