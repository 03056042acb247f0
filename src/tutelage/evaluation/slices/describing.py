"""What can be measured of an input without any model: how bright it is, how busy."""

from collections.abc import Callable

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.data.sets import Examples

_AT_ONCE = 1024
_Measures = dict[str, Callable[[Tensor], Tensor]]
MOST_COLUMNS = 24
"""Of tables with more columns, the first so many are looked at."""


def described(examples: Examples) -> dict[str, Tensor]:
    """Simple measures of every example, by name.

    Of images ``(C, H, W)``: brightness (mean), contrast (standard deviation), detail (mean change
    from a pixel to the next), and of colour images colour (mean spread of the channels in a
    pixel). Of rows of numbers, each column. Of anything else nothing.

    Args:
        examples: In order, without augmentation.

    Returns:
        ``(N,)`` of float64 each.

    Example:
        >>> from tutelage.data.sets import TensorSet
        >>> described(TensorSet(torch.ones(2, 1, 4, 4)))["brightness"].tolist()
        [1.0, 1.0]
    """
    shape = tuple(examples.example_shape)
    if len(shape) == 3:
        measures: _Measures = {"brightness": _brightness, "contrast": _contrast, "detail": _detail}
        if shape[0] > 1:
            measures["colour"] = _colour
        return _measured(examples, measures)
    if len(shape) == 1:
        columns: _Measures = {
            f"input {number + 1}": _column(number) for number in range(min(shape[0], MOST_COLUMNS))
        }
        return _measured(examples, columns)
    return {}


def spread(values: Tensor) -> Tensor:
    """Mean 0 and variance 1 in every column of ``(N, D)``; a column of equal values becomes 0."""
    if values.ndim != 2:
        raise DataError(f"values of shape {tuple(values.shape)} were given: (N, D) is needed.")
    values = values.double()
    deviation = values.std(0, correction=0)
    return (values - values.mean(0)) / torch.where(deviation > 0, deviation, 1.0)


def _measured(examples: Examples, measures: _Measures) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name in measures}
    for start in range(0, len(examples), _AT_ONCE):
        rows = torch.arange(start, min(start + _AT_ONCE, len(examples)))
        inputs = examples.batch(rows).inputs
        if not isinstance(inputs, Tensor):  # several inputs by name: nothing to measure alike
            return {}
        for name, measure in measures.items():
            found[name].append(measure(inputs.double()))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _brightness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def _contrast(images: Tensor) -> Tensor:
    return images.mean(1).flatten(1).std(1, correction=0)


def _detail(images: Tensor) -> Tensor:
    grey = images.mean(1)
    down, along = grey.diff(dim=1).abs(), grey.diff(dim=2).abs()
    return down.flatten(1).sum(1) / max(down[0].numel(), 1) + along.flatten(1).sum(1) / max(
        along[0].numel(), 1
    )


def _colour(images: Tensor) -> Tensor:
    return images.std(1, correction=0).mean((1, 2))


def _column(number: int) -> Callable[[Tensor], Tensor]:
    return lambda rows: rows[:, number]
