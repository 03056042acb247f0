"""The examples that show a quantiser how large the activations of a network become."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError

LEAST = 32
"""Fewer examples do not show the ranges of activations."""
_AT_ONCE = 32


class Reader:
    """Hands examples to ONNX Runtime's calibration, in groups of one size.

    Its histograms (entropy, percentile) cannot be made of groups that differ in size.

    Args:
        batches: Real validation examples.
        names: The file's inputs.
        examples: How many to use, from the first on.

    Raises:
        RecipeError: ``examples`` is below `LEAST`.
        DataError: There are fewer examples than that, their inputs are not those of the file, or
            some are not finite.

    Example:
        >>> reader = Reader([Batch(torch.zeros(40, 2))], ["inputs"], 40)
        >>> reader.get_next()["inputs"].shape
        (20, 2)
    """

    def __init__(self, batches: Sequence[Batch], names: Sequence[str], examples: int):
        if isinstance(examples, bool) or not isinstance(examples, int) or examples < LEAST:
            raise RecipeError(
                f"examples must be a whole number of at least {LEAST}, got {examples!r}."
            )
        total = sum(map(len, batches))
        if total < examples:
            raise DataError(
                f"{total} calibration examples were given and {examples} are asked for: give more "
                f"of the validation split, or set examples (at least {LEAST})."
            )
        self._tensors = _joined([b for b in batches if len(b)], list(names), examples)
        # The largest group that leaves no rest.
        self._size = next(size for size in range(_AT_ONCE, 0, -1) if examples % size == 0)
        self._examples = examples
        self._parts = self._cut()

    def get_next(self) -> dict[str, Any] | None:
        """The next group by input name, as arrays; None at the end."""
        return next(self._parts, None)

    def _cut(self) -> Iterator[dict[str, Any]]:
        for start in range(0, self._examples, self._size):
            rows = slice(start, start + self._size)
            yield {name: tensor[rows].numpy() for name, tensor in self._tensors.items()}


def _joined(batches: Sequence[Batch], names: list[str], examples: int) -> dict[str, Tensor]:
    given: dict[str, list[Tensor]] = {name: [] for name in names}
    for batch in batches:
        inputs = batch.inputs
        by_name = {names[0]: inputs} if isinstance(inputs, Tensor) else dict(inputs)
        if set(by_name) != set(names):
            raise DataError(
                f"the file takes {', '.join(names)}, and the calibration examples have "
                f"{', '.join(by_name)}: give examples of the data that the file was exported with."
            )
        for name, tensor in by_name.items():
            given[name].append(tensor.detach().cpu())
    joined = {}
    for name, tensors in given.items():
        if len({tensor.shape[1:] for tensor in tensors}) > 1:
            raise DataError(f"the calibration examples differ in the shape of {name}: make it one.")
        joined[name] = torch.cat(tensors)[:examples]
        if not bool(joined[name].isfinite().all()):
            raise DataError(
                f"some calibration examples have NaN or infinite {name}: the ranges of "
                "activations cannot be found with them."
            )
    return joined
