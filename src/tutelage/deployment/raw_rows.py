"""Raw rows of a table as the numbers that a shipped model takes, without torch.

``preprocessing.json`` of a package says under ``columns`` what the data source did to stored rows;
this does the same to new ones, number by number.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from tutelage.core.errors import DataError, suggest

Cell = str | float | None
Array = np.ndarray[Any, Any]


def encode(rows: Sequence[Mapping[str, Cell]], columns: Sequence[Mapping[str, Any]]) -> Array:
    """What the data source of the run would have given the model for these rows.

    A column of numbers becomes one feature, ``(x - mean) / std`` where it says ``scaled``; a column
    of categories one feature for each, all zeros for a word that training did not know. A cell that
    means "not known" (None, or one of ``missing_cells``) becomes the training mean where the column
    says ``missing: mean``. Columns that the model does not use may be in a row: they are passed
    over.

    Args:
        rows: By the column's name: a number, or text as it stands in a file (space around it is
            dropped); None for "not known".
        columns: As in ``preprocessing.json``; see `check_columns`.

    Returns:
        ``(N, D)`` of float32.

    Raises:
        DataError: One line: a row lacks a column, or a cell is of another kind or not known.

    Example:
        >>> age = {"name": "age", "kind": "number", "mean": 40.0, "std": 10.0, "scaled": True,
        ...        "missing": "mean", "missing_cells": ["?"]}
        >>> pet = {"name": "pet", "kind": "category", "categories": ["cat", "dog"],
        ...        "mean": [0.75, 0.25], "missing": "mean", "missing_cells": ["?"]}
        >>> encode([{"age": "50", "pet": "dog"}, {"age": None, "pet": "?"}], [age, pet]).tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.75, 0.25]]
    """
    width, names = check_columns(columns), [str(column["name"]) for column in columns]
    _check_rows(rows, names)
    found = np.zeros((len(rows), width), dtype=np.float64)
    at = 0
    for column, name in zip(columns, names, strict=True):
        unknown = set(column["missing_cells"])
        fill = _numbers if column["kind"] == "number" else _words
        place = slice(at, at + _width(column))
        for index, row in enumerate(rows):
            cell = row[name]
            cell = cell.strip(" \t") if isinstance(cell, str) else cell
            if cell is None or (isinstance(cell, str) and cell in unknown):
                _refuse_missing(column, index, cell)
                found[index, place] = column["mean"]
            else:
                fill(found[index, place], cell, column, index)
        if column.get("scaled"):
            found[:, at] = (found[:, at] - column["mean"]) / column["std"]
        at = place.stop
    return found.astype(np.float32)


def check_columns(columns: Any) -> int:
    """How many features columns make together.

    Args:
        columns: Each with ``name``, ``kind``, ``missing`` (``error`` or ``mean``),
            ``missing_cells``, and for numbers ``mean``, ``std``, ``scaled``; for categories
            ``categories``, and ``mean``, the share of each in training.

    Raises:
        DataError: They are not that.
    """
    if not isinstance(columns, Sequence) or isinstance(columns, str) or not columns:
        raise DataError("columns are no list: take those of a package's preprocessing.json.")
    names = [column.get("name") if isinstance(column, Mapping) else None for column in columns]
    for column, name in zip(columns, names, strict=True):
        if not isinstance(name, str) or names.count(name) > 1 or not _is_column(column):
            raise DataError(
                f"column {name!r:.80} is not as preprocessing.json states columns: take those of a "
                "package."
            )
    return sum(map(_width, columns))


def _is_column(column: Mapping[str, Any]) -> bool:
    cells = column.get("missing_cells")
    if column.get("missing") not in ("error", "mean") or not _texts(cells):
        return False
    mean, std = column.get("mean"), column.get("std")
    if column.get("kind") == "number":
        scaled = isinstance(column.get("scaled"), bool)
        return scaled and _finite(mean) and _finite(std) and float(std or 0) > 0
    known = column.get("categories")
    if (
        column.get("kind") != "category"
        or not isinstance(known, list)
        or not isinstance(mean, list)
    ):
        return False
    once = _texts(known) and 0 < len(known) == len(set(known))
    return once and len(mean) == len(known) and all(map(_finite, mean))


def _check_rows(rows: Any, names: Sequence[str]) -> None:
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise DataError(f"rows are a {type(rows).__name__}, expected a list of objects by column.")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                f"row {index + 1} is a {type(row).__name__}, expected an object: a cell by the "
                "name of its column."
            )
        lacks = next((name for name in names if name not in row), None)
        if lacks is not None:
            raise DataError(
                f"row {index + 1} has no column {lacks!r:.80}: give null where it is not known. "
                f"It has others: {suggest(lacks, map(str, row))}"
            )


def _numbers(target: Array, cell: Any, column: Mapping[str, Any], index: int) -> None:
    value = math.nan
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        value = float(cell) if abs(cell) < 1e300 else math.nan
    elif isinstance(cell, str) and "_" not in cell:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"row {index + 1}: column {column['name']!r:.80} is {cell!r:.80}, expected a finite "
            "number."
        )
    target[0] = value


def _words(target: Array, cell: Any, column: Mapping[str, Any], index: int) -> None:
    if isinstance(cell, int) and not isinstance(cell, bool):
        cell = str(cell)  # codes: a file has them as text
    if not isinstance(cell, str):
        raise DataError(
            f"row {index + 1}: column {column['name']!r:.80} is {cell!r:.80}, expected a text such "
            f"as {column['categories'][0]!r:.80}."
        )
    if cell in column["categories"]:
        target[column["categories"].index(cell)] = 1.0


def _refuse_missing(column: Mapping[str, Any], index: int, cell: Any) -> None:
    if column["missing"] == "error":
        raise DataError(
            f"row {index + 1}: column {column['name']!r:.80} is not known ({cell!r:.40}), and the "
            "model was trained on rows that know it: fill it in."
        )


def _width(column: Mapping[str, Any]) -> int:
    return 1 if column["kind"] == "number" else len(column["categories"])


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
