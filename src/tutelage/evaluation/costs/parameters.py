"""What a model costs to keep and to send: parameters and bytes. For time see `latency`."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from tutelage.core.errors import ModelError


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model has learned.

    Attributes:
        total: All of them.
        trainable: Those that still can change; 0 for a frozen teacher.
    """

    total: int
    trainable: int


def parameters(model: nn.Module) -> Parameters:
    """Count a model's parameters, shared ones once.

    Example:
        >>> parameters(nn.Linear(3, 2))
        Parameters(total=8, trainable=8)
    """
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Parameters(sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns))


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights and statistics as they are shipped: floats in 32 bits.

    Counts what a state dict holds (so the running statistics of BatchNorm too), shared tensors
    once; what a file format adds is not in it: see `file_bytes`.

    Example:
        >>> weight_bytes(nn.Linear(3, 2))
        32
    """
    kept: dict[int, Tensor] = {id(t): t for t in model.state_dict(keep_vars=True).values()}
    return sum(
        t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in kept.values()
    )


def file_bytes(path: str | Path) -> int:
    """Bytes of a shipped file, such as ``student.onnx``."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no file {str(path)!r} to take the size of.")
    return path.stat().st_size
