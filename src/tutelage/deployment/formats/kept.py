"""A file that gets its name only after its own runtime gave the model's answers."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ExportError, NotInstalled, ShapeMismatch
from tutelage.deployment.export import _answers, _line
from tutelage.deployment.formats.file_model import FileModel
from tutelage.deployment.parity import Parity, compared
from tutelage.deployment.placing import sweep
from tutelage.models.observed import Frozen, Observed

_Found = TypeVar("_Found")


def keep_checked(
    path: Path, write: Callable[[Path], None], check: Callable[[Path], _Found], what: str
) -> _Found:
    """Write beside ``path``, check, and only then name it; whatever is wrong, nothing is left.

    Args:
        path: Where the file goes; an older one is replaced only by a good one. Files that
            ``write`` puts beside it (weights) go along.
        write: Makes the file.
        check: Looks at the file, and raises where it is wrong.
        what: The file, in messages: ``the OpenVINO file``.

    Returns:
        What ``check`` found.

    Raises:
        ExportError: The file cannot be written, or is wrong.
    """
    spare = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            _sweep(path, spare)
            spare.mkdir(parents=True)
        except OSError as error:
            raise ExportError(
                f"{path} cannot be written: {error.strerror}. Name a file in a folder that can be "
                "written to."
            ) from error
        made = spare / path.name
        try:
            write(made)
            found = check(made)
            _name(spare, path)
        except (ExportError, NotInstalled):
            raise
        except Exception as error:  # every converter has classes of its own
            raise ExportError(f"{what} cannot be made: {_line(error)}") from error
    finally:
        shutil.rmtree(spare, ignore_errors=True)
    return found


def _sweep(path: Path, spare: Path) -> None:
    """Remove what killed exports left; one of them may have had this process's number."""
    if path.parent.is_dir():
        shutil.rmtree(spare, ignore_errors=True)
        sweep(path)


def _name(spare: Path, path: Path) -> None:
    """Weights first: the file itself is never beside the weights of another one."""
    others = sorted(each for each in spare.iterdir() if each.name != path.name)
    if others:
        path.unlink(missing_ok=True)
    for each in others:
        each.replace(path.parent / each.name)
    (spare / path.name).replace(path)


def same_answers(
    model: FileModel, inputs: Inputs, expected: Tensor, tolerance: float, what: str
) -> Parity:
    """Compare a file with the model, one by one and together; see `compared`.

    Raises:
        ExportError: It differs, or cannot answer.
    """
    try:
        return compared(
            lambda some: model(Batch(some)).logits,
            inputs,
            expected,
            tolerance,
            what=what,
            most=model.most,
        )
    except ShapeMismatch as error:
        raise ExportError(f"{what} does not answer real examples: {error}") from error


def expected_of(
    model: Observed | Frozen, examples: Batch, names: tuple[str, ...]
) -> tuple[Observed, Tensor]:
    """The model itself, and its logits for the examples.

    Raises:
        ExportError: It has no finite logits for them, there are none, or names do not fit.
    """
    if not isinstance(model, Observed | Frozen):
        raise ExportError(f"an Observed or a Frozen is exported, got a {type(model).__name__}.")
    observed = model.observed if isinstance(model, Frozen) else model
    if len(examples) == 0:
        raise ExportError("no examples were given: an export is checked on real ones.")
    expected = _answers(observed, examples)
    if names and len(names) != expected.shape[-1]:
        raise ExportError(
            f"{len(names)} class names were given, and the model has {expected.shape[-1]} classes."
        )
    return observed, expected
