"""From words to files in other formats: what ``tutelage export`` does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.core.errors import ExportError, RecipeError, ShapeMismatch
from tutelage.data import Splits
from tutelage.deployment.export import export_onnx
from tutelage.deployment.formats.formats import FORMATS, format_named
from tutelage.deployment.parity import Parity
from tutelage.deployment.placing import sweep
from tutelage.evaluation.costs.bench import shipped_bytes
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models import Observed
from tutelage.recipe.candidates import candidate
from tutelage.recipe.evaluating import plain
from tutelage.recipe.reading import Data
from tutelage.recipe.shelf import Shelf, data_of

_COMPARED = 64  # validation examples that a float32 file is compared on
_CALIBRATION = 256  # training examples that ranges of int8 are found on
_CHECKED = 2000  # validation examples that the loss of int8 is measured on
_OF_ONNX = ("openvino", "openvino_int8")


def export_words(
    model: str,
    to: Sequence[str],
    out: str | Path,
    *,
    data: str | None = None,
    of: str = "student",
    force: bool = False,
    told: Callable[[str], None] = lambda words: None,
) -> list[dict[str, Any]]:
    """Export a model to formats, each checked on validation examples before it is named.

    Args:
        model: As `candidate` takes it: a run folder, an ``.onnx`` file, a description.
        to: Names of formats.
        out: The folder that files go to.
        data: What they are checked on; None for the data of the run.
        of: ``student``: the torch model; ``shipped``: the run's ``student.onnx``.
        force: Whether older files are replaced; only by good ones.
        told: Is told what is being done.

    Returns:
        For each format: ``format``, ``file``, ``bytes`` and what the comparison found.

    Raises:
        TutelageError: One line: a word is wrong, a file is there, or a file is not the model.
            Formats that were written before it stay.
    """
    formats = [format_named(name) for name in dict.fromkeys(to)]
    if not formats:
        raise RecipeError(f"name a format with --to: {', '.join(FORMATS)}.")
    if of not in ("student", "shipped"):
        raise RecipeError(f"--from is {of!r:.80}, expected student or shipped.")
    words = _source(plain(model), of)
    is_file = isinstance(words, str) and words.endswith(".onnx")
    for each in formats:
        if is_file and each.name not in _OF_ONNX:
            raise ExportError(
                f"{each.name} is made from the torch model, and {words} is an ONNX file: give the "
                "run's folder with --from student."
            )
    stem = Path(words).stem if isinstance(words, str) and is_file else "student"
    paths = {each.name: Path(out) / f"{stem}{each.file}" for each in formats}
    for path in paths.values():
        if path.exists() and not force:
            raise ExportError(f"{path} is there already: choose another --out, or give --force.")
    if Path(out).is_dir():
        for each in FORMATS.values():  # what was killed before need not have been of these formats
            sweep(Path(out) / f"{stem}{each.file}")
    told("loading")
    shelf, asked = Shelf(), _asked(plain(data) if data is not None else None, model)
    splits = data_of(asked, shelf)
    found = candidate("student", words, splits, shelf)
    made = []
    for each in formats:
        told(f"exporting to {each.name}")
        path = paths[each.name]
        agreed = _export(each.name, found.answers, splits, path, found.name)
        made.append(
            {"format": each.name, "file": str(path), "bytes": shipped_bytes(path), **agreed}
        )
    return made


def _source(words: str | Data, of: str) -> str | Data:
    if of == "student":
        return words
    file = Path(str(words)) / "student.onnx"
    if not isinstance(words, str) or not file.is_file():
        raise RecipeError(f"--from shipped: there is no {file}: give the folder of a run.")
    return str(file)


def _asked(data: str | Data | None, model: str) -> str | Data:
    if data is not None:
        return data
    places = (Path(model), Path(model.rpartition(":")[0] or model))
    for folder in places:
        if (folder / "resolved.yaml").is_file():
            return str(folder)
    if not model.startswith("{") and not any(place.exists() for place in places):
        raise RecipeError(f"there is no model {model!r:.200}: check its path.")
    raise RecipeError(
        f"--data is not given, and {model!r:.200} does not say what it is checked on: give --data, "
        "a source, a recipe or a run folder."
    )


def _export(
    name: str, model: Observed | OnnxModel, splits: Splits, path: Path, source: str
) -> dict[str, Any]:
    names = tuple(splits.classes)
    count = min(_COMPARED, len(splits.validation))
    examples = splits.validation.batch(torch.arange(count))
    if name == "openvino_int8":
        from tutelage.deployment.formats.openvino_int8 import export_openvino_int8

        if not len(splits.train):
            raise ShapeMismatch("the data has no training examples to find ranges of int8 on.")
        dice = torch.Generator().manual_seed(0)
        rows = torch.randperm(len(splits.train), generator=dice)[:_CALIBRATION]
        check = splits.validation.batch(torch.arange(min(_CHECKED, len(splits.validation))))
        agreed = export_openvino_int8(
            model, splits.train.batch(rows), check, path, names=names, source=source
        )
        loss = agreed.accuracy_loss
        return {
            "max_difference": agreed.max_difference,
            "equal_top1": agreed.equal_top1,
            "examples": agreed.examples,
            "accuracy_loss": None if loss is None else [loss.mean, loss.low, loss.high],
        }
    parity = _exporter(name)(model, examples, path, names=names, source=source)
    return {
        "max_difference": parity.max_difference,
        "equal_top1": parity.equal_top1,
        "examples": parity.examples,
        "accuracy_loss": None,
    }


def _exporter(name: str) -> Callable[..., Parity]:
    if name == "openvino":
        from tutelage.deployment.formats.openvino import export_openvino

        return export_openvino
    if name == "torch":
        from tutelage.deployment.formats.torch_program import export_program

        return export_program
    if name == "executorch":
        from tutelage.deployment.formats.executorch import export_executorch

        return export_executorch
    return export_onnx
