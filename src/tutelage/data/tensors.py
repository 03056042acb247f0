"""Sets that are already in Python: tensors, and torch data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.data.arrays import of_pairs
from tutelage.data.splits import Splits

Pair = tuple[Tensor, Tensor | None]


def from_tensors(
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    validation: float | Pair | None = None,
    test: float | Pair | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "tensors",
) -> Splits:
    """Splits of tensors.

    Args:
        inputs: Images ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` of uint8, or of floats
            in [0, 1]; or rows ``(N, D)`` of floats.
        targets: Class numbers ``(N,)``, negative where unlabelled; or None.
        validation: Its inputs and targets; or a fraction of train, or a count, to be taken out,
            stratified; None for 0.1.
        test: Likewise, taken out first.
        classes: Names of the classes; None for their numbers.
        seed: Which examples are taken out.
        name: Name of the data set.

    Returns:
        Splits; ids run on from train over validation to test.

    Raises:
        DataError: Tensors of a wrong shape or type, NaN, labels without a class, too few examples.

    Example:
        >>> splits = from_tensors(torch.rand(40, 3), torch.arange(40) % 2, validation=4, test=0.25)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (26, 4, 10)
    """
    pairs: dict[str, Pair] = {"train": (inputs, targets)}
    amounts: dict[str, float | None] = {}
    for split, given in (("validation", validation), ("test", test)):
        if isinstance(given, tuple):
            pairs[split], amounts[split] = given, None
        else:
            amounts[split] = given
    for split, pair in pairs.items():
        _check_pair(pair, f"{name} {split}")
    origin = {"source": "from_tensors", "name": name, "seed": seed}
    return of_pairs(pairs, classes, **amounts, seed=seed, name=name, origin=origin)


def from_dataset(
    dataset: "torch.utils.data.Dataset[Any]",
    *,
    validation: "float | torch.utils.data.Dataset[Any] | None" = None,
    test: "float | torch.utils.data.Dataset[Any] | None" = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "dataset",
) -> Splits:
    """Splits of map-style torch data sets of (input, class number), each item read once.

    The items are kept in memory, as the data set gave them: leave random transforms and
    normalisation out of it, augmentation and a model's intake do these. A ``DataLoader`` that
    must stay as it is goes to ``fit`` through `tutelage.core.source.Listed`: pairs
    (inputs, targets) become batches; without ids, so no caches.

    Args:
        dataset: Has a length and gives (input, class number): tensors or arrays as in
            `from_tensors`, or Pillow images, all of one shape.
        validation: A data set; or a fraction of train, or a count, to be taken out, stratified;
            None for 0.1.
        test: Likewise, taken out first.
        classes: Names of the classes; None for the data set's own ``classes`` if it has them,
            else numbers.
        seed: Which examples are taken out.
        name: Name of the data set.

    Returns:
        Splits; ids run on from train over validation to test.

    Raises:
        DataError: Items of another kind or of different shapes, or what `from_tensors` refuses.

    Example:
        >>> pairs = torch.utils.data.TensorDataset(torch.rand(40, 1, 4, 4), torch.arange(40) % 2)
        >>> from_dataset(pairs).example_shape
        (1, 4, 4)
    """
    if classes is None:
        classes = getattr(dataset, "classes", None)
    inputs, targets = _stacked(dataset, f"{name} train")
    given: dict[str, Any] = {"validation": validation, "test": test}
    for split, value in given.items():
        if isinstance(value, torch.utils.data.Dataset):
            given[split] = _stacked(value, f"{name} {split}")
    return from_tensors(inputs, targets, **given, classes=classes, seed=seed, name=name)


def _check_pair(pair: tuple[Any, ...], name: str) -> None:
    if len(pair) != 2:
        raise DataError(f"{name} is a tuple of {len(pair)}, expected (inputs, targets).")
    for what, value in zip(("inputs", "targets"), pair, strict=True):
        if not isinstance(value, Tensor) and not (what == "targets" and value is None):
            raise DataError(
                f"{what} of {name} are a {type(value).__name__}, expected a tensor: give torch "
                "tensors, torch.from_numpy(x) of an array or torch.tensor(x) of a list."
            )


def _stacked(dataset: "torch.utils.data.Dataset[Any]", name: str) -> tuple[Tensor, Tensor]:
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError) as error:
        raise DataError(
            f"{name} is a {type(dataset).__name__} without a length: give a map-style data set."
        ) from error
    if not count:
        raise DataError(f"{name} is empty: there is nothing to learn from.")
    inputs, targets = [], []
    for index in range(count):
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(
                f"item {index} of {name} is a {type(item).__name__}, "
                "expected (input, class number)."
            )
        inputs.append(_input(item[0], index, name))
        targets.append(_target(item[1], index, name))
        if inputs[-1].shape != inputs[0].shape:
            raise DataError(
                f"item {index} of {name} has shape {tuple(inputs[-1].shape)}, and item 0 "
                f"{tuple(inputs[0].shape)}: bring all to one size."
            )
    return torch.stack(inputs), torch.tensor(targets)


def _input(value: Any, index: int, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) or hasattr(value, "__array_interface__"):  # Pillow images
        array = np.array(value)
        if array.dtype.kind in "uif":
            return torch.from_numpy(array)
    raise DataError(
        f"input {index} of {name} is a {type(value).__name__}, "
        "expected a tensor, an array or a Pillow image."
    )


def _target(value: Any, index: int, name: str) -> int:
    try:
        number = int(value)
        if number == value:
            return number
    except (TypeError, ValueError, RuntimeError):
        pass
    raise DataError(
        f"target {index} of {name} is {str(value)[:40]!r}, expected a class number (an integer)."
    )
