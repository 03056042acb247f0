"""A whole data set answered once: every figure of the report is computed from these answers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch, suggest
from tutelage.core.outputs import Outputs, dense

_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Examples(Protocol):
    """What is asked of a data set here; the sets of `tutelage.data` are of this kind."""

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> Batch:
        """These examples, un-augmented."""
        ...

    @property
    def targets(self) -> Tensor | None:
        """Class numbers ``(N,)`` of int64, negative where unlabelled."""
        ...

    @property
    def ids(self) -> Tensor:
        """Stable example numbers ``(N,)`` of int64."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their numbers."""
        ...


@dataclass(frozen=True)
class Predictions:
    """One model's answers to one data set, beside the truth.

    Attributes:
        logits: ``(N, C)`` of float32 on the CPU.
        targets: True class numbers ``(N,)`` of int64, negative where unlabelled.
        ids: Stable example numbers ``(N,)``: predictions are compared on equal ids only.
        classes: Names of the C classes.
    """

    logits: Tensor
    targets: Tensor
    ids: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.logits)


def predict(
    answers: Callable[[Batch], Outputs],
    examples: Examples,
    *,
    batch_size: int = 512,
    precision: str = "fp32",
) -> Predictions:
    """Answer every example of a set, in order, without augmentation and without a graph.

    A model is put in eval mode meanwhile, and each of its modules back in its former mode.

    Args:
        answers: A model (`tutelage.models.Observed`), an ensemble, a cache: batch to outputs.
        examples: The data set.
        batch_size: Examples answered at once; the result does not depend on it.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``; logits come back as float32.

    Returns:
        Logits ``(N, C)`` with targets, ids and class names.

    Raises:
        DataError: The set is empty or without targets, or the precision is unknown.
        ShapeMismatch: The model's logits are not one number for each class of the set.
    """
    if precision not in _PRECISIONS:
        raise DataError(f"there is no precision {precision!r}. {suggest(precision, _PRECISIONS)}")
    if batch_size < 1:
        raise DataError(f"batch_size is {batch_size}, and at least 1 is needed.")
    if len(examples) == 0:
        raise DataError("the data set is empty: there is nothing to predict.")
    if examples.targets is None:
        raise DataError("the data set has no targets: give labelled examples to evaluate on.")
    device, classes, lower = _device(answers), tuple(examples.classes), _PRECISIONS[precision]
    logits = []
    with evaluating(answers), torch.no_grad():
        for start in range(0, len(examples), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(examples)))
            with torch.autocast(device.type, lower, enabled=lower is not None):
                answer = dense(answers(examples.batch(rows).to(device)), "an evaluation")
            if answer.shape != (len(rows), len(classes)):
                raise ShapeMismatch(
                    f"the model answers {len(rows)} examples with logits of shape "
                    f"{tuple(answer.shape)}, and the data has {len(classes)} classes: "
                    f"logits of shape ({len(rows)}, {len(classes)}) are needed."
                )
            logits.append(answer.float().cpu())
    return Predictions(
        torch.cat(logits), examples.targets.cpu().long(), examples.ids.cpu(), classes
    )


@contextmanager
def evaluating(answers: object) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode it was in, one by one."""
    modes = {m: m.training for m in answers.modules()} if isinstance(answers, nn.Module) else {}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _device(answers: object) -> torch.device:
    if isinstance(answers, nn.Module):
        for tensor in chain(answers.parameters(), answers.buffers()):
            return tensor.device
    return torch.device("cpu")
