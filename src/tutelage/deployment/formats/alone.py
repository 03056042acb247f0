"""A tool of others in a process of its own, whose end is one line and not the end of ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from tutelage.core.errors import ExportError

_PATIENCE = 1800.0  # seconds that a child may take


def alone(
    words: Sequence[str],
    told: str,
    doing: str,
    *,
    tool: str = "ExecuTorch",
    most: float = _PATIENCE,
) -> str:
    """Run Python with these words in a fresh process.

    Args:
        words: A script and what it is given.
        told: Its standard input.
        doing: What it does, in messages: ``lowers the model``.
        tool: Whose code it runs, in messages.
        most: Seconds that it may take.

    Returns:
        The last line that it printed; empty where it printed nothing.

    Raises:
        ExportError: It failed, was ended by a signal, or took too long.

    Example:
        >>> alone(("-c", "print(1 + int(input()))"), "1", "adds")
        '2'
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", *words],
            input=told,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=most,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"{tool} {doing} for more than {most:.0f} s: it was ended and nothing was written."
        ) from error
    if done.returncode < 0:
        raise ExportError(
            f"{tool} ended its process with {_signal(-done.returncode)} while it {doing}: nothing "
            "was written."
        )
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ExportError(f"{tool} failed while it {doing}: {last[:200]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
