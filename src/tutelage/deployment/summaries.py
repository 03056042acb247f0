"""A few numbers of each input, in place of the input; NumPy only.

They are what drift of inputs is looked for in. Nobody can get an image back from them, though a
short row of a table is kept as it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError

Array = NDArray[Any]
_LEVELS = (5, 25, 50, 75, 95)  # percentiles
_VALUES = 64  # of a vector that are kept as they are
_SIDE = 64  # pixels: of larger images only every k-th row and column is looked at
_BUCKETS = 8


def summary(inputs: Mapping[str, Array]) -> Array:
    """The numbers of each example, the inputs in the order of their names.

    - images ``(N, C, H, W)`` and signals ``(N, C, L)``: mean, deviation, percentiles, means of up
      to 16 blocks, of up to 4 channels, mean change from pixel to pixel across and down, and
      second differences (blur lowers them, noise lifts them);
    - vectors ``(N, D)``: the values themselves; beyond 64, mean, deviation, percentiles and 57 of
      the values, evenly spread;
    - tokens (integers, ``(N, T)``): how many are not 0, the share of different ones, percentiles
      and mean of the numbers, shares of 8 buckets; an input with ``mask`` in its name: its sum.

    Args:
        inputs: By name, one example a row.

    Returns:
        ``(N, F)`` of float32; NaN and infinite inputs give such numbers.

    Raises:
        DataError: There is no input, or the inputs have different numbers of rows.

    Example:
        >>> summary({"inputs": np.ones((2, 1, 28, 28), "f4")}).shape
        (2, 26)
    """
    parts = [part for name in sorted(inputs) for part in _of(inputs[name], name)[1]]
    rows = {len(part) for part in parts}
    if len(rows) != 1:
        raise DataError(f"inputs of {sorted(rows)} rows were given: one example a row is needed.")
    with np.errstate(all="ignore"):
        return np.stack(parts, axis=1).astype(np.float32)


def summary_names(inputs: Mapping[str, Array]) -> tuple[str, ...]:
    """What each number of `summary` is.

    Example:
        >>> summary_names({"inputs": np.ones((1, 2), "f4")})
        ('value 0', 'value 1')
    """
    several = len(inputs) > 1
    return tuple(
        f"{name}: {word}" if several else word
        for name in sorted(inputs)
        for word in _of(inputs[name], name)[0]
    )


def _of(value: Array, name: str) -> tuple[list[str], list[Array]]:
    value = np.asarray(value)
    if value.dtype.kind not in "fiub" or value.ndim == 0:
        raise DataError(f"{name} is of {value.dtype} and shape {value.shape}: give numbers.")
    if value.ndim == 1:
        value = value[:, None]
    with np.errstate(all="ignore"):
        if value.ndim == 2 and "mask" in name:
            named = {"set": value.astype(np.float64).sum(1)}
        elif value.ndim == 2:
            named = _tokens(value) if value.dtype.kind in "iu" else _vector(value)
        else:
            while value.ndim > 4:
                value = value.reshape(len(value), -1, *value.shape[3:])
            named = _image(value if value.ndim == 4 else value[:, :, None])
    return list(named), list(named.values())


def _levels(flat: Array) -> dict[str, Array]:
    """Percentiles of each row: the value at that place of the sorted row."""
    ordered = np.sort(flat, axis=1)
    last = flat.shape[1] - 1
    return {f"percentile {level}": ordered[:, round(level / 100 * last)] for level in _LEVELS}


def _spread(flat: Array) -> dict[str, Array]:
    return {"mean": flat.mean(1), "deviation": flat.std(1), **_levels(flat)}


def _vector(value: Array) -> dict[str, Array]:
    width = value.shape[1]
    if width <= _VALUES:
        return {f"value {place}": value[:, place] for place in range(width)}
    spread = _spread(value)
    places = np.linspace(0, width - 1, _VALUES - len(spread)).astype(int)
    return {**spread, **{f"value {place}": value[:, place] for place in places}}


def _tokens(value: Array) -> dict[str, Array]:
    length, width = (value != 0).sum(1), value.shape[1]
    ordered = np.sort(value, axis=1)
    different = 1 + (np.diff(ordered, axis=1) != 0).sum(1)
    named = {"length": length, "different": different / width, "mean": value.mean(1)}
    buckets = value % _BUCKETS
    shares = {f"bucket {each}": (buckets == each).mean(1) for each in range(_BUCKETS)}
    return {**named, **_levels(value), **shares}


def _image(value: Array) -> dict[str, Array]:
    down, across = (max(1, -(-size // _SIDE)) for size in value.shape[2:])
    value = value[:, :, ::down, ::across].astype(np.float32, copy=False)
    named = _spread(value.reshape(len(value), -1))
    if value.shape[1] > 1:
        means = value.mean((2, 3))
        named |= {f"channel {c}": means[:, c] for c in range(min(value.shape[1], 4))}
    return {**named, **_blocks(value.mean(1)), **_edges(value)}


def _blocks(plane: Array) -> dict[str, Array]:
    """Means of 4 x 4 blocks; of 16 pieces where there is one row only."""
    height, width = plane.shape[1:]
    rows = np.linspace(0, height, min(4, height) + 1).astype(int)
    columns = np.linspace(0, width, min(4 if height > 1 else 16, width) + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(plane, rows[:-1], 1), columns[:-1], 2)
    means = sums / np.outer(np.diff(rows), np.diff(columns))
    return {
        f"block {row + 1}.{column + 1}": means[:, row, column]
        for row in range(means.shape[1])
        for column in range(means.shape[2])
    }


def _edges(value: Array) -> dict[str, Array]:
    named = {}
    for word, axis in (("across", 3), ("down", 2)):
        if value.shape[axis] > 1:
            named[f"change {word}"] = np.abs(np.diff(value, axis=axis)).mean((1, 2, 3))
    if value.shape[3] > 2:
        named["second differences"] = np.abs(np.diff(value, n=2, axis=3)).mean((1, 2, 3))
    return named
