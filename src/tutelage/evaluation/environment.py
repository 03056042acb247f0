"""Where figures were measured: versions and the kind of machine, never its name."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = ("tutelage", "torch", "numpy", "onnx", "onnxruntime", "safetensors")


def environment(*, date: str, threads: int | None = None) -> dict[str, object]:
    """The ``environment`` of a report.

    Args:
        date: When the run was made, as ``2026-01-31``: given, so that reports can be made again.
        threads: Threads that training used; None for what torch is set to.

    Returns:
        ``date``, ``python``, ``platform``, ``processor``, ``cores``, ``threads``, ``device``,
        ``versions``: plain data for JSON.

    Example:
        >>> sorted(environment(date="2026-01-31"))[:4]
        ['cores', 'date', 'device', 'platform']
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": _cores(),
        "threads": threads if threads is not None else torch.get_num_threads(),
        "device": gpu or "CPU",
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cores() -> int | None:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))  # what this process may use, not what the box has
    return os.cpu_count()
