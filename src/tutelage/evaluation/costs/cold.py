"""The first answer of a fresh process: a child loads the model, answers once, and is gone."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import ModelError

_PATIENCE = 300.0  # seconds that one child may take
_KEYS = ("import_ms", "load_ms", "first_ms", "memory_bytes")
_SCRIPT = Path(__file__).with_name("cold_child.py")


@dataclass(frozen=True)
class Start:
    """How a child is started that loads a model and answers once.

    Attributes:
        command: The child; it prints one line of JSON, as `first_answer` returns it, with
            ``import_ms``, the time to import its runtime.
        asked: What it is told on its standard input, as JSON, beside what `cold` adds.
    """

    command: Sequence[str]
    asked: Mapping[str, Any]


def file_start(path: Path, runtime: str = "onnxruntime") -> Start:
    """A child that runs a file in its runtime; ONNX Runtime and OpenVINO need no torch.

    Args:
        path: The file.
        runtime: ``onnxruntime``, ``openvino``, ``torch_program`` or ``executorch``.
    """
    # -P: the folder of the script is no place to import from.
    asked = {"path": str(path), "runtime": runtime}
    return Start((sys.executable, "-P", str(_SCRIPT)), asked)


def onnx_start(path: Path) -> Start:
    """A child that runs an ``.onnx`` file in ONNX Runtime, without torch."""
    return file_start(path)


def cold(start: Start, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Start one child, and return what it measured.

    Args:
        start: The child.
        name: The model's, for messages.
        asked: What it is told beside: ``threads``, ``batch``, ``example`` (an ``.npz`` file).

    Returns:
        ``import_ms``, ``load_ms``, ``first_ms``, ``memory_bytes``.

    Raises:
        ModelError: The child failed, in one line, or took more than five minutes.
    """
    told = json.dumps({**start.asked, **asked})
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(
            list(start.command),
            input=told,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{name} gave no answer in a fresh process within {_PATIENCE:.0f} s: leave it out."
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ModelError(f"{name} cannot be started in a fresh process: {last[:200]}")
    found = json.loads(lines[-1])
    return {key: found[key] for key in _KEYS}


def middle(starts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of several starts; ``starts`` says of how many.

    >>> one = {"import_ms": 1, "load_ms": 2, "first_ms": 3, "memory_bytes": None}
    >>> middle([one, {**one, "load_ms": 4}])["load_ms"]
    3.0
    """
    found: dict[str, Any] = {"starts": len(starts)}
    for key in _KEYS:
        known = [each[key] for each in starts if each[key] is not None]
        found[key] = statistics.median(known) if known else None
    return found
