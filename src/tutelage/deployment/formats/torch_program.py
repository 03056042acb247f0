"""A model as a program of ``torch.export``: a ``.pt2`` file that needs torch and no Python code.

Source: https://docs.pytorch.org/docs/2.13/export.html
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ModelError
from tutelage.core.quiet import quietly
from tutelage.deployment.export import _about, _line, _Shipped
from tutelage.deployment.formats.file_model import Call, FileModel, Opened
from tutelage.deployment.formats.kept import expected_of, keep_checked, same_answers
from tutelage.deployment.parity import Parity
from tutelage.models.observed import Frozen, Observed

WHAT = "the torch.export file"
_WORDS = "tutelage.json"
_KNOWN = re.compile(
    r"(data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/[\w.]+"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id))"
)


def export_program(
    model: Observed | Frozen,
    examples: Batch,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    tolerance: float = 1e-4,
) -> Parity:
    """Write a model with its intake as a ``.pt2`` program, and keep it only if it is the model.

    The program takes the data's own inputs, any number of them at once: one tensor, or a
    dictionary of tensors. Examples are not in the file (torch would put its example inputs there).

    Args:
        model: The model with its intake and order of classes.
        examples: Real examples of the data, a few dozen; the labels are not used.
        path: Where the file goes; an older one is replaced only by a good one.
        names: Class names, written into the file.
        source: What this model is and where it came from, written into the file.
        tolerance: Largest difference allowed, as a share of the largest logit.

    Returns:
        What the comparison found.

    Raises:
        ExportError: The model cannot be exported, or the file does not compute the same.
    """
    observed, expected = expected_of(model, examples, tuple(names))
    about = _about(examples.inputs, names, source)

    def write(made: Path) -> None:
        with quietly():
            program = traced(_Shipped.of(observed), examples.inputs)
            program.example_inputs = None
            torch.export.save(program, made, extra_files={_WORDS: dumps(about)})

    def check(made: Path) -> Parity:
        return same_answers(open_program(made), examples.inputs, expected, tolerance, WHAT)

    return keep_checked(Path(path), write, check, WHAT)


def traced(
    shipped: torch.nn.Module, inputs: Inputs, *, rows: int = 3, most: int | None = None
) -> Any:
    """The model as a graph, for any number of examples, or for at most ``most``.

    Args:
        shipped: Raw inputs in, logits out.
        inputs: Examples; ``rows`` of them are traced. More than one, or the number is a constant.
        rows: So many; they come again where there are fewer.
        most: How many the graph is for.
    """
    few = Batch(inputs)[:rows]
    again = torch.arange(rows) % len(few)
    given = few.inputs
    example: Any = (
        given[again] if isinstance(given, Tensor) else {k: v[again] for k, v in given.items()}
    )
    many = torch.export.Dim("batch", min=1, max=most)
    shapes: Any = {0: many} if isinstance(given, Tensor) else {name: {0: many} for name in given}
    with torch.no_grad():
        return torch.export.export(shipped, (example,), dynamic_shapes={"inputs": shapes})


def open_program(path: Path) -> FileModel:
    """Open a ``.pt2`` file. Open only your own: torch trusts what it reads.

    ``torch.export.load`` unpickles what a file says is pickled, and loads compiled libraries that
    lie in it. Files that hold either are refused here before torch sees them; that is a guard
    against accidents and no promise: a program's graph is code, too.

    Raises:
        ModelError: The file is broken, or holds what torch would unpickle or load.
    """
    _refuse_pickles(path)
    words = {_WORDS: ""}
    try:
        with quietly():
            program = torch.export.load(path, extra_files=words)
            module: Any = program.module()
    except Exception as error:  # torch raises nearly every kind
        raise ModelError(
            f"{path} cannot be loaded by torch.export: {_line(error)}: name a whole .pt2 file."
        ) from error
    about = loads(words[_WORDS] or "{}")
    shapes = loads(about.get("tutelage.input_shape", "{}"))
    weights = list(program.state_dict.values())
    names = tuple(shapes)

    by_name = _by_name(program)

    def prepared(feed: dict[str, Any], threads: int) -> Call:
        tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
        given: Any = tensors if by_name else next(iter(tensors.values()))

        def run() -> Any:
            with _threads(threads), torch.inference_mode():
                return module(given)

        return run

    return FileModel(
        path,
        "torch_program",
        Opened(
            prepared,
            lambda raw: raw if isinstance(raw, Tensor) else next(iter(raw)),
            names,
            about,
            sum(each.numel() for each in weights if each.is_floating_point()),
            sum(each.numel() * each.element_size() for each in weights),
            by_name=by_name,
        ),
    )


def _by_name(program: Any) -> bool:
    """Whether the program takes a dictionary."""
    spec = program.call_spec.in_spec
    first = spec.child(0).child(0) if spec.child(0).num_children else None
    return first is not None and first.type is dict


def _threads(threads: int) -> AbstractContextManager[None]:
    """So many inside the block; who times many calls sets them once, and this costs nothing."""
    return nullcontext() if torch.get_num_threads() == threads else _changed(threads)


@contextmanager
def _changed(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _refuse_pickles(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
            contents = {
                name: archive.read(whole)
                for name, whole in zip(names, archive.namelist(), strict=True)
                if name.endswith("config.json") or name.startswith("data/sample_inputs/")
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is no whole .pt2 file: {_line(error)}") from error
    strange = [name for name in names if not _KNOWN.fullmatch(name)]
    if strange or len(set(names)) < len(names):
        raise ModelError(
            f"{path} holds {strange[0] if strange else 'a name twice'!r:.80}, which no program "
            "that tutelage writes does, and torch may run it: it is not opened."
        )
    for name, content in contents.items():
        if _pickled(name, content):
            raise ModelError(
                f"{path} holds pickled objects ({name}), which torch would run: it is not opened."
            )


def _pickled(name: str, content: bytes) -> bool:
    if not name.endswith(".json"):
        try:
            if content:
                torch.load(BytesIO(content), weights_only=True)
        except Exception:  # torch would unpickle it
            return True
        return False
    try:
        entries = loads(content)["config"].values()
        return any(each["use_pickle"] is not False for each in entries)
    except (JSONDecodeError, KeyError, TypeError, AttributeError):
        return True
