"""Columns of a table as numbers: scaled where they are numbers, one-hot where they are words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError

MOST_VALUES = 64
"""Different values up to which a column of words is one-hot."""


@dataclass(frozen=True)
class Table:
    """Cells of a table file, stripped, and where they stand.

    Attributes:
        path: The file.
        columns: Names of the columns.
        rows: Cells, as many in each row as there are columns.
        lines: For each row its line in the file, from 1.
        missing: Cells that mean "not known".
    """

    path: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    missing: frozenset[str]

    def column(self, name: str) -> list[str]:
        """All cells of one column."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


@dataclass(frozen=True)
class Column:
    """How one column becomes features, learnt from the training rows.

    Attributes:
        name: Of the column.
        values: The words it is one-hot over, sorted; None for a column of numbers.
        mean: Of each feature over the training rows that know it.
        std: Of each feature; 1 for one-hot and for constant columns.
    """

    name: str
    values: tuple[str, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def features(self) -> list[str]:
        """Names of the features: ``age``, or ``work=Private`` for each word."""
        if self.values is None:
            return [self.name]
        return [f"{self.name}={value}" for value in self.values]

    def stated(self, missing: Iterable[str], *, fill: bool, scaled: bool) -> dict[str, Any]:
        """All of this as plain data, with which `tutelage.deployment.raw_rows` treats new rows.

        Args:
            missing: Cells that mean "not known".
            fill: Whether these become the training mean; else they are an error.
            scaled: Whether numbers leave as (x - mean) / std.
        """
        facts: dict[str, Any] = {"name": self.name}
        if self.values is None:
            facts |= {"kind": "number", "mean": self.mean[0], "std": self.std[0], "scaled": scaled}
        else:
            facts |= {"kind": "category", "categories": list(self.values), "mean": list(self.mean)}
        return facts | {"missing": "mean" if fill else "error", "missing_cells": sorted(missing)}

    def encode(self, table: Table, fill: bool) -> Tensor:
        """The features of every row ``(N, F)`` of float64; a word not learnt is all zeros.

        Args:
            table: Has this column.
            fill: Whether a missing cell becomes the training mean; else it is an error.
        """
        encoded = torch.zeros(len(table.rows), len(self.features), dtype=torch.float64)
        places = None if self.values is None else {v: i for i, v in enumerate(self.values)}
        unknown: list[int] = []
        for index, cell in enumerate(table.column(self.name)):
            if cell in table.missing:
                unknown.append(index)
            elif places is None:
                encoded[index, 0] = _number(cell, self.name, table, index)
            elif cell in places:
                encoded[index, places[cell]] = 1.0
        if unknown and not fill:
            cell = table.column(self.name)[unknown[0]]
            raise DataError(
                f"column {self.name!r} of {table.path!r} has {len(unknown)} missing values, first "
                f"in line {table.lines[unknown[0]]} ({cell!r}): fill them, set missing: mean, or "
                "ignore the column."
            )
        encoded[unknown] = torch.tensor(self.mean, dtype=torch.float64)
        return encoded


def learn(table: Table, rows: Sequence[int], name: str, words: bool) -> Column:
    """How column ``name`` becomes features, from the cells of the training ``rows`` alone.

    Args:
        table: The table.
        rows: Which rows are for training.
        name: Of the column.
        words: Read it as words, even if all are numbers.
    """
    column = table.column(name)
    known = [(index, column[index]) for index in rows if column[index] not in table.missing]
    if not known:
        raise DataError(
            f"column {name!r} of {table.path!r} has no known value in train: ignore the column."
        )
    if not words and not all(is_number(cell) for _, cell in known):
        words = True
    if not words:
        numbers = torch.tensor(
            [_number(cell, name, table, index) for index, cell in known], dtype=torch.float64
        )
        std = float(numbers.std(correction=0))
        return Column(name, None, (float(numbers.mean()),), (std if std > 0 else 1.0,))
    counts: dict[str, int] = {}
    for _, cell in known:
        counts[cell] = counts.get(cell, 0) + 1
    if len(counts) > MOST_VALUES:
        odd = next((i, c) for i, c in known if not is_number(c)) if _numeric(counts) else None
        hint = f" (line {table.lines[odd[0]]} has {odd[1]!r})" if odd else ""
        raise DataError(
            f"column {name!r} of {table.path!r} has {len(counts)} different values that are not "
            f"all numbers{hint}, and one-hot takes at most {MOST_VALUES}: ignore the column, or "
            "mend it."
        )
    values = tuple(sorted(counts))
    shares = tuple(counts[value] / len(known) for value in values)
    return Column(name, values, shares, (1.0,) * len(values))


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, infinite and NaN included.

    >>> is_number("-1e3"), is_number("1_000"), is_number("x")
    (True, False, False)
    """
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _numeric(counts: dict[str, int]) -> bool:
    numbers = sum(is_number(cell) for cell in counts)
    return len(counts) > numbers > 0.9 * len(counts)


def _number(cell: str, name: str, table: Table, index: int) -> float:
    if is_number(cell) and math.isfinite(value := float(cell)):
        return value
    raise DataError(
        f"column {name!r} of {table.path!r} has {cell!r} in line {table.lines[index]}, expected a "
        "finite number: mend it, or name it in missing_values."
    )
