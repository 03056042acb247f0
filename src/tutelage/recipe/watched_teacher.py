"""A teacher that is asked again, about inputs that the traffic log kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.predict import evaluating
from tutelage.recipe.candidates import candidate
from tutelage.recipe.shelf import Shelf, data_of

Array = NDArray[Any]
_AT_ONCE = 256


def teacher_classes(words: str, inputs: Mapping[str, Array], labels: tuple[str, ...]) -> Array:
    """The class that a teacher gives to each input, ``(K,)``.

    Args:
        words: A run folder (``FOLDER:teacher``), or an ``.onnx`` file.
        inputs: Raw, by name.
        labels: Of the student's classes: an ONNX file that names others is refused.

    Raises:
        TutelageError: One line: there is no such model, or it cannot answer these inputs.
    """
    model = _model(words, labels)
    count = len(next(iter(inputs.values())))
    found = []
    with evaluating(model), torch.inference_mode():
        for begin in range(0, count, _AT_ONCE):
            part = {
                name: torch.from_numpy(np.array(value[begin : begin + _AT_ONCE]))
                for name, value in inputs.items()
            }
            one = next(iter(part.values())) if len(part) == 1 else part
            try:
                logits = model(Batch(one)).logits
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                line = " ".join(str(error).split())[:160]
                raise ShapeMismatch(f"--teacher: {words} cannot answer: {line}.") from error
            found.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0, int)


def _model(words: str, labels: tuple[str, ...]) -> Any:
    if words.endswith(".onnx"):
        model = OnnxModel(words)
        if model.names and labels and set(model.names) != set(labels):
            raise RecipeError(f"--teacher: {words} is of other classes than the student.")
        return (
            model.ordered([model.names.index(n) for n in labels])
            if model.names and labels
            else model
        )
    folder, colon, _ = words.rpartition(":")
    run = Path(folder if colon and Path(folder).is_dir() else words)
    if not run.is_dir():
        raise RecipeError(
            f"--teacher: got {words!r:.200}: give a run folder, as in runs/one:teacher, or an "
            ".onnx file."
        )
    shelf = Shelf()
    return candidate("teacher", words, data_of(str(run), shelf), shelf).answers
