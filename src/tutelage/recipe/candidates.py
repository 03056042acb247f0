"""From words to models and data that are there already: run folders, ONNX files, descriptions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError

from tutelage.core.errors import ModelError, RecipeError, ShapeMismatch, TutelageError
from tutelage.data import Splits
from tutelage.data.sets import Examples
from tutelage.evaluation.language import reads_tokens
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.predict import evaluating
from tutelage.models import Observed, class_order, load_weights, temperature_of, tempered
from tutelage.recipe.complaints import one_line, refuse_halves
from tutelage.recipe.networks import channel_statistics, network, shown
from tutelage.recipe.plan import Given, Plan, few_labels, plan
from tutelage.recipe.reading import Data, parse, read
from tutelage.recipe.sections import Recipe, Section, Teacher
from tutelage.recipe.shelf import Shelf
from tutelage.recipe.teaching import kept_teacher
from tutelage.recipe.texts import outputs_of
from tutelage.recipe.validated import recipe_from

_Kind = TypeVar("_Kind", bound=Section)
_ROLES = ("student", "teacher", "baseline")
_DESCRIBED = ("model", "weights", "intake", "classes")
_FORMS = "a run folder, an .onnx file, or {model: NAME, weights: FILE} (here or in a YAML file)"


@dataclass(frozen=True)
class Candidate:
    """A model to be evaluated.

    Attributes:
        answers: The model, its classes in the data's order.
        name: What people call it.
        short: A word for a folder's name.
        train: What a student learned from, where it is known.
        taught: What a teacher learned from, where it is known.
        notes: What a reader of the report must know.
    """

    answers: Observed | OnnxModel
    name: str
    short: str
    train: Examples | None = None
    taught: Examples | None = None
    notes: Sequence[str] = ()


def section_from(kind: type[_Kind], written: Data, key: str) -> _Kind:
    """One section by itself, from plain data; complaints begin with ``key``.

    Raises:
        RecipeError: One line with key, value and remedy.
    """
    try:
        refuse_halves(written, [key])
        return kind.model_validate_json(json.dumps(written))
    except ValidationError as error:
        raise RecipeError(f"{key}{one_line(error, kind)}") from error


def candidate(role: str, words: str | Data, data: Splits, shelf: Shelf) -> Candidate:
    """The model that is named, ready to answer ``data``.

    Args:
        role: ``student``, ``teacher`` or ``baseline``, for messages.
        words: A run folder (its student; ``FOLDER:teacher`` and ``FOLDER:baseline`` are its
            others), an ``.onnx`` file, or a description as a mapping or a YAML file.
        data: What it will be asked.
        shelf: Where data comes from.

    Raises:
        TutelageError: One line: there is no such model, or it cannot answer such examples.
    """
    found = untried(role, words, data, shelf)
    batch = data.validation.batch(torch.arange(min(2, len(data.validation))))
    try:
        with evaluating(found.answers), torch.no_grad():
            logits = found.answers(batch).logits
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ShapeMismatch(
            f"{role}: {found.name} cannot answer examples of shape {data.example_shape}: "
            f"{' '.join(str(error).split())[:160]}: give the data it was made for, or say its "
            "intake."
        ) from error
    except TutelageError as error:
        raise type(error)(f"{role}: {error}") from error
    text, known = reads_tokens(data.train), outputs_of(data)
    fits = logits.shape[-1] >= known if text else logits.shape[-1] == known
    if logits.ndim != (3 if text else 2) or not fits:
        kind = "tokens" if text else "classes"
        raise ShapeMismatch(
            f"{role}: {found.name} knows {logits.shape[-1]} {kind}, and {data.name} has {known}: "
            f"give the data it was made for{'' if text else ', or the names of its classes'}."
        )
    return found


def untried(role: str, words: str | Data, data: Splits, shelf: Shelf) -> Candidate:
    """As `candidate`, without asking it anything."""
    if isinstance(words, dict):
        return _described(role, words, data)
    folder, colon, which = words.rpartition(":")
    if colon and which in _ROLES and Path(folder).is_dir():
        return _of_run(role, Path(folder), which, data, shelf)
    path = Path(words)
    if path.is_dir():
        return _of_run(role, path, "student", data, shelf)
    if path.suffix == ".onnx":
        return _of_file(role, path, data)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return _described(role, parse(path.read_text(encoding="utf-8")), data)
    raise ModelError(f"{role}: got {words!r:.200}: give {_FORMS}.")


def _of_file(role: str, path: Path, data: Splits) -> Candidate:
    try:
        model = OnnxModel(path)
        if model.names and model.names != tuple(data.classes):
            model = model.ordered(_order(model.names, data))
    except TutelageError as error:
        raise type(error)(f"{role}: {error}") from error
    return Candidate(model, path.name, path.stem)


def _described(role: str, written: Data, data: Splits) -> Candidate:
    for key in written:
        if key not in _DESCRIBED:
            raise RecipeError(
                f"{role}.{key}: there is no such key: a model is described by "
                f"{', '.join(_DESCRIBED)}."
            )
    if not written.get("weights"):
        raise RecipeError(f"{role}.weights: name the file of its weights: {_FORMS}.")
    section = section_from(Teacher, written, f"{role}.")
    shape, names = data.example_shape, section.classes or list(data.classes)
    order = None if section.classes is None else _order(names, data)
    statistics, notes = channel_statistics(data.train), list[str]()
    if statistics is not None and section.intake.mean is None:
        notes.append(
            f"The {role}'s images are normalised by mean and deviation of the training images of "
            f"{data.name}: say intake.mean and intake.std where it learned with others."
        )
    make = network(role, section, shape, len(names), statistics, order)
    short = section.model.name.replace(":", "-").replace("/", "-")
    model = _as_shipped(make(0), Path(str(section.weights)))
    return Candidate(model.eval(), shown(section.model), short, notes=notes)


def _of_run(role: str, folder: Path, which: str, data: Splits, shelf: Shelf) -> Candidate:
    resolved = folder / "resolved.yaml"
    if not resolved.is_file():
        raise ModelError(
            f"{role}: {folder} is no folder of a run (there is no resolved.yaml): give {_FORMS}."
        )
    recipe, prints = recipe_from(read(resolved)), parse(resolved.read_text(encoding="utf-8"))
    if "python" in (recipe.data.source.name, recipe.student.model.name, recipe.teacher.model.name):
        raise ModelError(
            f"{role}: the run in {folder} was made from objects of Python, which a folder does "
            "not keep: give its student.onnx."
        )
    whole = shelf.take(recipe.data.source, f"{role}: the data of the run in {folder}")
    made = plan(_without_weights(recipe), Given(whole))
    model, seed = _KINDS[which](made, folder, recipe, whole), made.seeds[0]
    if tuple(whole.classes) != tuple(data.classes):
        model = _reordered(model, _order(whole.classes, data))
    same = whole is data or whole.fingerprints() == data.fingerprints()
    notes = []
    if prints.get("data") not in (None, whole.fingerprints()):
        notes.append(f"The data of the run in {folder} is not what it was when the run was made.")
    if which == "student" and same:
        notes.append(
            f"The run in {folder} was reported on these very test examples: this report says more "
            "about them, it is no second opinion."
        )
    few = few_labels(whole, recipe).train if same else None
    what = recipe.teacher.model if which == "teacher" else recipe.student.model
    return Candidate(
        model.eval(),
        f"{shown(what)}, {which} of {folder.name}"
        + (f" (seed {seed})" if which != "teacher" else ""),
        folder.name if which == "student" else f"{folder.name}-{which}",
        train=few,
        taught=made.teacher.sees if same else None,
        notes=notes,
    )


def _without_weights(recipe: Recipe) -> Recipe:
    """The same networks; what they started from need not be there any more."""
    student = recipe.student.model_copy(update={"weights": None})
    return recipe.model_copy(update={"student": student})


def _student(made: Plan, folder: Path, recipe: Recipe, whole: Splits) -> Observed:
    seed = made.seeds[0]
    if made.join is None:
        model = made.student(seed)
    else:  # grafted: the teacher's classifier is in the file too
        bare = recipe.teacher.model_copy(update={"weights": None, "train": None})
        unknowing = plan(recipe.model_copy(update={"teacher": bare}), Given(whole))
        model = made.learning(seed, unknowing.teacher.make(made.teacher.seed))
    path = folder / "student.safetensors"
    load_weights(model.model, path)
    return _as_shipped(model, path)


def _as_shipped(model: Observed, weights: Path) -> Observed:
    """With its logits divided by the temperature that lies beside its weights, if one does."""
    divisor = temperature_of(weights) if weights.suffix == ".safetensors" else 1.0
    return model if divisor == 1.0 else tempered(model, divisor)


def _baseline(made: Plan, folder: Path, recipe: Recipe, whole: Splits) -> Observed:
    seed = made.seeds[0]
    if made.baseline is None:
        raise ModelError(f"the run in {folder} trained no baseline: its recipe says so.")
    model = made.student(seed)
    load_weights(model.model, folder / "checkpoint" / f"baseline-{seed}" / "model.safetensors")
    return model


def _teacher(made: Plan, folder: Path, recipe: Recipe, whole: Splits) -> Observed:
    path = folder / "checkpoint" / "teacher" / "model.safetensors"
    if path.is_file():
        bare = recipe.teacher.model_copy(update={"weights": None})
        model = plan(recipe.model_copy(update={"teacher": bare}), Given(whole)).teacher.make(0)
        load_weights(model.model, path)
        return model
    if made.teacher.train is None:
        return made.teacher.make(made.teacher.seed)
    kept = kept_teacher(made, whole)
    if kept is None:
        raise ModelError(
            f"the teacher of the run in {folder} is not kept any more, neither there nor in the "
            "cache: run the recipe again, or describe the teacher: {model: NAME, weights: FILE}."
        )
    return kept.model


_KINDS: dict[str, Callable[[Plan, Path, Recipe, Splits], Observed]] = {
    "student": _student,
    "baseline": _baseline,
    "teacher": _teacher,
}


def _order(classes: Sequence[str], data: Splits) -> list[int]:
    """For each class of the data, the number that the model gives it."""
    try:
        return class_order(classes, list(data.classes))
    except ModelError as error:
        raise ModelError(str(error).replace("the teacher", "the model")) from error


def _reordered(model: Observed, order: list[int]) -> Observed:
    """The same network with its logits in another order of classes."""
    if model.classes is not None:
        inner = model.classes.tolist()
        order = [inner[number] for number in order]
    return Observed(model.model, intake=model.intake, read=model.read, classes=order)
