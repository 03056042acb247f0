"""NumPy archives of inputs and targets."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.core.errors import DataError, suggest
from tutelage.core.registry import register
from tutelage.data.paths import existing
from tutelage.data.sets import Examples, TensorSet
from tutelage.data.splits import Splits, split_up

_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

_AS_STORED = "Nothing was done to the stored arrays: their numbers are the inputs."


@register("data", "npz")
def npz(
    path: str,
    inputs: str = "inputs",
    targets: str = "targets",
    classes: list[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    seed: int = 0,
) -> Splits:
    """Arrays in a ``.npz`` file; pickled objects are never loaded.

    Either one pair of arrays, ``inputs`` and ``targets``, or one for each split, with its name
    before or after: ``train_inputs``, ``inputs_train``; ``validation`` may also be ``val`` or
    ``valid``. Splits that are not there are taken out of train, stratified.

    Args:
        path: The file.
        inputs: Name of the arrays of inputs: images ``(N, H, W)``, ``(N, H, W, C)`` or
            ``(N, C, H, W)`` (see `tutelage.data.from_tensors`), or rows ``(N, D)`` of floats.
        targets: Name of the arrays of class numbers ``(N,)``, from 0; negative is unlabelled.
        classes: Names of the classes; None for their numbers.
        validation: A fraction of train, or a count; None for the file's own, else 0.1.
        test: Likewise.
        seed: Which examples are taken out.

    Returns:
        Splits.

    Raises:
        DataError: No such file or array, or arrays that do not fit together.
    """
    found = existing(path, "npz path")
    arrays = _arrays(found)
    pairs = {}
    for split, words in _SPLITS.items():
        asked, plain = (inputs, targets), (inputs if split == "train" else None)
        pair = _pair(arrays, words, asked, plain, found)
        if pair is not None:
            pairs[split] = pair
    if "train" not in pairs:
        tried = f"{inputs!r} or 'train_{inputs}'"
        raise DataError(f"{str(found)!r} has no array {tried}. {suggest(inputs, arrays)}")
    origin = {"source": "npz", "path": str(found), "seed": seed}
    return of_pairs(
        pairs, classes, validation=validation, test=test, seed=seed, name="npz", origin=origin
    )


def of_pairs(
    pairs: dict[str, tuple[Tensor, Tensor | None]],
    classes: Sequence[str] | None,
    *,
    validation: float | None,
    test: float | None,
    seed: int,
    name: str,
    origin: dict[str, Any],
) -> Splits:
    """Splits of (inputs, targets) by split; ids run on from train over validation to test."""
    for split, asked in (("validation", validation), ("test", test)):
        if asked is not None and split in pairs:
            raise DataError(
                f"{split} is {asked}, and {name} has a {split} set of its own: "
                "leave one of the two out."
            )
    labels = [t for _, t in pairs.values() if t is not None and t.numel()]
    if classes is None:
        highest = max((int(t.max()) for t in labels), default=-1)
        if highest > 100_000:
            raise DataError(f"label {highest} in {name}: number the classes 0, 1, 2 and so on.")
        classes = [str(number) for number in range(highest + 1)]
    sets: dict[str, Examples] = {}
    start = 0
    for split, (inputs, targets) in pairs.items():
        called = f"{name} {split}"
        ids = torch.arange(start, start + len(inputs))
        start += len(inputs)
        sets[split] = TensorSet(as_images(inputs), targets, classes=classes, ids=ids, name=called)
        if sets[split].example_shape != sets["train"].example_shape:
            raise DataError(
                f"examples of {called} have shape {sets[split].example_shape}, and those of train "
                f"{sets['train'].example_shape}: they must agree."
            )
        if (targets is None) != (pairs["train"][1] is None):
            raise DataError(f"{name} has targets in some splits only: give them for all, or none.")
    made = split_up(sets, validation, test, seed, name=name, origin=origin)
    return replace(made, stored={} if len(made.example_shape) == 3 else {"treatment": _AS_STORED})


def as_images(inputs: Tensor) -> Tensor:
    """Images with channels first, ``(N, C, H, W)``; anything else as it is.

    ``(N, H, W)`` gets one channel. ``(N, H, W, C)`` is turned where C is 1 or 3 and the second
    size is not, so that there is no doubt.

    >>> as_images(torch.zeros(2, 8, 9)).shape, as_images(torch.zeros(2, 8, 9, 3)).shape
    (torch.Size([2, 1, 8, 9]), torch.Size([2, 3, 8, 9]))
    """
    if inputs.ndim == 3:
        return inputs[:, None]
    if inputs.ndim == 4 and inputs.shape[-1] in (1, 3) and inputs.shape[1] not in (1, 3):
        return inputs.permute(0, 3, 1, 2).contiguous()
    return inputs


def _arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{str(path)!r} is no .npz archive: save inputs and targets together by numpy.savez."
        )
    try:
        with np.load(path, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        why = "it holds Python objects" if "allow_pickle" in str(error) else _line(error)
        raise DataError(
            f"{str(path)!r} cannot be read as .npz ({why}): save plain arrays by numpy.savez."
        ) from error


def _pair(
    arrays: dict[str, np.ndarray[Any, Any]],
    words: Sequence[str],
    names: tuple[str, str],
    plain: str | None,
    path: Path,
) -> tuple[Tensor, Tensor | None] | None:
    def variants(name: str) -> list[str]:
        bare = [name] if plain else []
        return bare + [v for word in words for v in (f"{word}_{name}", f"{name}_{word}")]

    inputs = [name for name in variants(names[0]) if name in arrays]
    targets = [name for name in variants(names[1]) if name in arrays]
    if len(inputs) > 1 or len(targets) > 1:
        both = " and ".join(map(repr, inputs if len(inputs) > 1 else targets))
        raise DataError(f"{str(path)!r} has both {both} for {words[0]}: remove one.")
    if not inputs:
        return None
    if not targets:
        raise DataError(
            f"{str(path)!r} has {inputs[0]!r} and no targets for it, expected one of "
            f"{', '.join(variants(names[1]))}. {suggest(names[1], arrays)}"
        )
    return _tensor(arrays[inputs[0]], inputs[0]), _tensor(arrays[targets[0]], targets[0])


def _tensor(array: np.ndarray[Any, Any], name: str) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise DataError(f"array {name!r} holds {array.dtype}, expected numbers.")
    kept = array.astype(np.int64) if array.dtype.kind == "u" and array.itemsize > 1 else array
    return torch.from_numpy(np.ascontiguousarray(kept.astype(kept.dtype.newbyteorder("="))))


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
