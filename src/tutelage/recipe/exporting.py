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
from tutelage.evaluation.language import reads_tokens
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models import Observed
from tutelage.recipe.candidates import candidate
from tutelage.recipe.evaluating import plain
from tutelage.recipe.reading import Data
from tutelage.recipe.shelf import Shelf, data_of

_COMPARED = 64  # validation examples that a float32 file is compared on
_CALIBRATION = 256  # training examples that ranges of int8 are found on
_CHECKED = 2000  # validation examples that the loss of int8 is measured on
_ROWS = 8  # validation rows of text, whose logits are larger
_OF_ONNX = ("openvino", "openvino_int8")
_OF_TEXT = ("onnx", *(name for name in FORMATS if name.startswith("gguf")))


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
    text = reads_tokens(splits.validation)
    for each in formats:
        _refuse_text(each.name, text, splits.name)
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
    most = _ROWS if reads_tokens(splits.validation) else _COMPARED
    examples = splits.validation.batch(torch.arange(min(most, len(splits.validation))))
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
    if name.startswith("gguf"):
        parity = _gguf(name, model, splits, path, source)
    else:
        parity = _exporter(name)(model, examples, path, names=names, source=source)
    return {
        "max_difference": parity.max_difference,
        "equal_top1": parity.equal_top1,
        "examples": parity.examples,
        "accuracy_loss": None,
    }


def _refuse_text(name: str, text: bool, data: str) -> None:
    """Raise where a format is not for data of this kind."""
    if name.startswith("gguf") and not text:
        raise ExportError(
            f"{name} is for language models, and {data} is no text whose next tokens are foreseen: "
            "give a run on text."
        )
    if text and name not in _OF_TEXT:
        raise ExportError(
            f"{name} is for models that answer with classes, and {data} is text: export to "
            f"{', '.join(_OF_TEXT)}."
        )


def _gguf(
    name: str, model: Observed | OnnxModel, splits: Splits, path: Path, source: str
) -> Parity:
    from tutelage.deployment.formats.gguf import export_gguf

    examples = splits.validation.batch(torch.arange(min(_ROWS, len(splits.validation))))
    tokenizer = getattr(splits.validation, "tokenizer", None)
    if tokenizer is None or isinstance(model, OnnxModel):
        raise ExportError(f"{name} needs the torch model and the data's tokenizer: name a run.")
    kind = name.removeprefix("gguf").lstrip("_") or "f32"
    return export_gguf(model, examples, path, tokenizer, kind=kind, source=source)


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
