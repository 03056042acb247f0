"""From words to models that are measured in use: what ``tutelage bench`` does."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.data import Splits
from tutelage.deployment.formats.file_model import FileModel
from tutelage.deployment.formats.formats import SUFFIXES, open_file
from tutelage.evaluation.costs.bench import STARTS, Subject, bench
from tutelage.evaluation.costs.cold import Start, file_start, onnx_start
from tutelage.evaluation.costs.cold_child import first_answer
from tutelage.evaluation.costs.limits import Conditions
from tutelage.evaluation.environment import environment
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.predict import evaluating
from tutelage.models import Observed
from tutelage.recipe.candidates import candidate
from tutelage.recipe.candidates import untried as named
from tutelage.recipe.evaluating import plain
from tutelage.recipe.reading import Data
from tutelage.recipe.shelf import Shelf, data_of

_CHILD = (
    "import time; start = time.perf_counter(); import torch; "
    "taken = (time.perf_counter() - start) * 1000; "
    "from tutelage.recipe.benching import answer_once; answer_once(taken)"
)
_ROLE = "model"
_FLOATS = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}
_FLOATS["tensor(float16)"] = torch.float16
_INTEGERS = {"tensor(int64)": torch.int64, "tensor(int32)": torch.int32}
_INTEGERS |= {"tensor(uint8)": torch.uint8, "tensor(int8)": torch.int8, "tensor(bool)": torch.bool}


def bench_words(
    models: Sequence[str],
    data: str | None,
    conditions: Conditions,
    *,
    seconds: float = 20.0,
    starts: int = STARTS,
    told: Callable[[str], None] = lambda words: None,
) -> dict[str, Any]:
    """Measure the models that are named; of a run folder its student and its ``student.onnx``.

    Args:
        models: As `candidate` takes them; the first is what others are compared with.
        data: What they are asked, as `data_of` takes it; None for the data of the first run
            folder, and for files alone: random numbers of the shape that the first takes.
        conditions: Batches and threads.
        seconds: For the warm calls of all together.
        starts: Fresh processes of each model, at most.
        told: Is told what is being done.

    Returns:
        As `bench`, with ``data`` (a name) and ``environment``.

    Raises:
        TutelageError: One line: a model or the data is wrong.
    """
    if not models:
        raise RecipeError("name at least one model to measure.")
    words = [plain(each) for each in models]
    asked = plain(data) if data is not None else _own_data(words)
    told("loading")
    largest = max(conditions.batches)
    if asked is None:
        first = str(words[0])
        name, example = f"random numbers of the shape that {first} takes", _random(first, largest)
        subjects = [_of_file(each) for each in words]
    else:
        shelf = Shelf()
        splits = data_of(asked, shelf)
        name, example = f"validation examples of {splits.name}", _examples(splits, largest)
        subjects = [one for each in words for one in _subjects(each, asked, splits, shelf)]
    found = bench(_apart(subjects), example, conditions, seconds=seconds, starts=starts, told=told)
    date = datetime.now(UTC).date().isoformat()
    return {**found, "data": name, "environment": environment(date=date)}


def answer_once(import_ms: float) -> None:
    """In a child: load the model that standard input names, answer once, print what it took.

    Loading is reading its weights from a safetensors file into its network. The network is made
    before: a recipe makes it from its data, whose time and memory are not the model's.

    Args:
        import_ms: What importing torch took.
    """
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    shelf = Shelf()
    splits = data_of(asked["data"], shelf)
    example = _examples(splits, asked["batch"])
    model = named(_ROLE, asked["model"], splits, shelf).answers
    assert isinstance(model, Observed)
    with tempfile.TemporaryDirectory() as spare:
        path = Path(spare) / "model.safetensors"
        state = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, path)
        del state, splits, shelf

        def load() -> Observed:
            model.load_state_dict(load_file(path), assign=True)
            return model

        took = first_answer(load, partial(_answer, example))
    sys.stdout.write(json.dumps({"import_ms": import_ms, **took}) + "\n")


def _answer(example: Batch, model: Observed) -> None:
    with evaluating(model), torch.inference_mode():
        model(example)


def _own_data(words: Sequence[str | Data]) -> str | None:
    """The first run folder among these; None where all are files."""
    for each in words:
        folder = _folder(each)
        if folder is not None and (folder / "resolved.yaml").is_file():
            return str(folder)
    for each in words:
        if _is_file(each):
            continue
        if isinstance(each, str) and _folder(each) is None and not Path(each).exists():
            raise RecipeError(
                f"there is no model {each!r:.200}: check its path (a run folder, or a file ending "
                f"in {', '.join(SUFFIXES)})."
            )
        raise RecipeError(
            f"--data is not given, and {each!r:.200} does not say what it is asked: give --data, a "
            "source, a recipe or a run folder."
        )
    return None


def _folder(words: str | Data) -> Path | None:
    """The run folder that is meant; None where the words are of another kind."""
    if not isinstance(words, str):
        return None
    folder = words.rpartition(":")[0]
    return next((Path(each) for each in (words, folder) if each and Path(each).is_dir()), None)


def _is_file(words: str | Data) -> bool:
    return isinstance(words, str) and words.endswith(SUFFIXES) and not Path(words).is_dir()


def _subjects(words: str | Data, asked: str | Data, splits: Splits, shelf: Shelf) -> list[Subject]:
    if _is_file(words):
        return [_of_file(words)]
    found = candidate(_ROLE, words, splits, shelf)
    name = words if isinstance(words, str) else found.name
    start = Start((sys.executable, "-c", _CHILD), {"model": words, "data": asked})
    made = [Subject(name, found.answers, start, _weights(words))]
    file = Path(name) / "student.onnx"
    return [*made, _of_file(str(file))] if file.is_file() else made


def _of_file(words: str | Data) -> Subject:
    path = Path(str(words))
    if path.suffix == ".onnx":
        return Subject(str(words), OnnxModel(path), onnx_start(path), path)
    file = open_file(path)
    start = file_start(path, file.backend)
    start = Start(start.command, {**start.asked, "by_name": file.opened.by_name})
    return Subject(str(words), file, start, path)


def _weights(words: str | Data) -> Path | None:
    """The file that a torch model's weights are read from, where it is known."""
    folder = _folder(words)
    if isinstance(words, dict):
        path = Path(str(words.get("weights")))
    elif folder is None or words.endswith(":student") or str(folder) == str(Path(words)):
        path = (folder or Path()) / "student.safetensors"
    else:
        which = words.rpartition(":")[2]
        kept = sorted(folder.glob(f"checkpoint/{which}*/model.safetensors"))
        path = kept[0] if kept else folder / "nothing"
    return path if path.is_file() else None


def _apart(subjects: Sequence[Subject]) -> list[Subject]:
    """No two names alike: who is named twice is measured twice, which shows the noise."""
    names: list[str] = []
    made = []
    for each in subjects:
        names.append(each.name)
        seen = names.count(each.name)
        name = each.name if seen == 1 else f"{each.name} ({seen})"
        made.append(Subject(name, each.model, each.start, each.file))
    return made


def _examples(splits: Splits, count: int) -> Batch:
    return splits.validation.batch(torch.arange(min(count, len(splits.validation))))


def _random(file: str, count: int) -> Batch:
    """Numbers in [0, 1), or zeros where whole ones are taken, of the shape that a file takes."""
    dice = torch.Generator().manual_seed(0)
    if not file.endswith(".onnx"):
        return _random_of(open_file(file), count, dice)
    from onnxruntime import InferenceSession

    OnnxModel(file)  # says in one line what is wrong with it
    made = {}
    for given in InferenceSession(file, providers=["CPUExecutionProvider"]).get_inputs():
        sizes = given.shape[1:]
        kind = _FLOATS.get(given.type) or _INTEGERS.get(given.type)
        if kind is None or not all(isinstance(size, int) for size in sizes):
            raise ShapeMismatch(
                f"{file} takes {given.name} of {given.type} {tuple(given.shape)}, for which no "
                "example can be made up: give --data."
            )
        shape = (count, *sizes)
        made[given.name] = (
            torch.rand(shape, generator=dice).to(kind)
            if kind.is_floating_point
            else torch.zeros(shape, dtype=kind)
        )
    return Batch(next(iter(made.values())) if len(made) == 1 else made)


def _random_of(file: FileModel, count: int, dice: torch.Generator) -> Batch:
    """The same for a file of another format, which says itself what it takes."""
    shapes, kinds = file.fact("input_shape") or {}, file.fact("input_dtype") or {}
    if not shapes:
        raise ShapeMismatch(
            f"{file.path} does not say what it takes, so no example can be made up: give --data."
        )
    made = {}
    for name, sizes in shapes.items():
        kind, shape = getattr(torch, kinds.get(name, "float32")), (count, *sizes)
        made[name] = (
            torch.rand(shape, generator=dice).to(kind)
            if kind.is_floating_point
            else torch.zeros(shape, dtype=kind)
        )
    return Batch(made if file.opened.by_name or len(made) > 1 else next(iter(made.values())))
