"""What monitoring compares with: validation examples as the shipped file answers them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.deployment.reference import MOST, REFERENCE, write_reference
from tutelage.deployment.shipped import shipped
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.predict import Examples, evaluating
from tutelage.models import Observed
from tutelage.recipe.arms import Desk

_BATCH = 256


def reference_of(folder: Path, examples: Examples, teacher: Observed, desk: Desk) -> None:
    """Write ``reference.safetensors`` beside what the run ships; it holds no example.

    Args:
        folder: The run's, with ``student.onnx`` or ``shipped.onnx``; nothing is done without.
        examples: Validation: the test set stays closed.
        teacher: It answers too, so that monitoring knows how often the two differ when all is
            well.
        desk: Is told where there can be none.
    """
    if not (folder / "student.onnx").is_file():
        return
    path = shipped(folder).path
    rows = torch.linspace(0, len(examples) - 1, min(len(examples), MOST)).round().long()
    batches = [examples.batch(some) for some in torch.split(rows, _BATCH)]
    model = OnnxModel(path)
    with evaluating(teacher), torch.no_grad():
        mine = torch.cat([model(batch).logits for batch in batches])
        theirs = torch.cat([teacher(batch).logits.float().cpu() for batch in batches])
    try:
        write_reference(
            folder / REFERENCE,
            _raw(batches),
            mine.numpy(),
            _labels(examples, rows),
            teacher=theirs.numpy(),
            model=path,
        )
    except DataError as error:
        desk.say(f"monitoring gets no reference: {error}")


def _raw(batches: list[Batch]) -> Iterator[Mapping[str, Any]]:
    for batch in batches:
        inputs = batch.inputs
        named = {"inputs": inputs} if isinstance(inputs, torch.Tensor) else inputs
        yield {name: value.numpy() for name, value in named.items()}


def _labels(examples: Examples, rows: torch.Tensor) -> Any:
    if examples.targets is None:
        return None
    found = examples.targets[rows]
    return None if bool((found < 0).any()) else found.numpy()
