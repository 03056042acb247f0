"""A model as an ExecuTorch program: a ``.pte`` file for phones and boards, run by XNNPACK.

Source: https://docs.pytorch.org/executorch/stable/getting-started.html
"""

from collections.abc import Sequence
from importlib.util import find_spec
from json import dumps, loads
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ExportError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.deployment.export import _about, _Shipped
from tutelage.deployment.formats.alone import alone
from tutelage.deployment.formats.kept import expected_of, keep_checked
from tutelage.deployment.formats.resize import fix_sizes
from tutelage.deployment.formats.torch_program import traced
from tutelage.deployment.parity import Parity
from tutelage.models.observed import Frozen, Observed

WHAT = "the ExecuTorch file"
MOST = 32
"""Examples that a file takes at once where nothing else is said: its memory is planned so."""

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
    if find_spec("executorch") is None:
        raise NotInstalled('.pte files need ExecuTorch: pip install "tutelage[edge]".')
    about = _about(examples.inputs, names, source)

    def write(made: Path) -> None:
        _write(observed, examples, about, most, made)

    def check(made: Path) -> Parity:
        return _checked(made, examples.inputs, expected, tolerance)

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
        alone((str(_CHILD), "lower", str(traced_file), str(made)), dumps(about), "lowers the model")
    finally:
        traced_file.unlink(missing_ok=True)


def _checked(made: Path, inputs: Inputs, expected: Tensor, tolerance: float) -> Parity:
    """Let a child ask the file: whatever ExecuTorch does to a process, it does it to that one."""
    given, spare = Batch(inputs).inputs, made.with_name("examples.safetensors")
    tensors = {"": given} if isinstance(given, Tensor) else dict(given)
    tensors = {f"input.{name}": each.contiguous() for name, each in tensors.items()}
    try:
        save_file({"expected": expected.contiguous(), **tensors}, spare)
        words = alone(
            (str(_CHILD), "check", str(made), str(spare)), str(tolerance), "answers real examples"
        )
    finally:
        spare.unlink(missing_ok=True)
    found = loads(words)
    if "error" in found:
        raise ExportError(found["error"])
    return Parity(**found)
