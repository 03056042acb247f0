"""Tables in CSV files: one row an example, one column its class."""

import csv as csv_format
from collections.abc import Sequence

import torch

from tutelage.core.errors import DataError, suggest
from tutelage.core.registry import register
from tutelage.data.columns import Column, Table, is_number, learn
from tutelage.data.groups import by_columns
from tutelage.data.paths import existing
from tutelage.data.sets import Examples, TensorSet
from tutelage.data.splits import Sealed, Splits, split_up

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null")
"""Cells that mean "not known", unless told otherwise."""


@register("data", "csv")
def csv(
    path: str,
    target: str,
    columns: list[str] | None = None,
    categorical: list[str] | None = None,
    ignore: list[str] | None = None,
    groups: list[str] | None = None,
    missing: str = "error",
    missing_values: list[str] | None = None,
    rename: dict[str, str] | None = None,
    test_path: str | None = None,
    delimiter: str = ",",
    standardise: bool = True,
    validation: float | None = None,
    test: float | None = None,
    seed: int = 0,
) -> Splits:
    """A table with a header line, or whose ``columns`` are given.

    A column whose known training cells are all numbers is one feature; any other is one-hot over
    the values seen in training, at most 64 (a value first seen later is all zeros). Mean and
    deviation of each feature, and the values, are learnt from the train split alone; they are in
    ``origin`` (``features``, ``mean``, ``std``), with which a deployed model must treat new rows.
    Space around cells is dropped; blank lines are passed over. Rows are numbered by ids, those of
    ``test_path`` after those of ``path``.

    Args:
        path: The file, UTF-8.
        target: The column with the class; classes are its values, sorted (numbers by size).
        columns: Names of the columns, where the file has no header line.
        categorical: Columns of numbers that are codes, to be one-hot.
        ignore: Columns to leave out.
        groups: Columns whose values are groups, such as ``[sex, race]``: figures are cut by them.
            They stay features, unless they are ignored; a missing cell is "not known".
        missing: What a missing cell is: "error", or "mean" to fill in the training mean of its
            features (for one-hot: the share of each value).
        missing_values: Cells that mean "not known"; None for the usual ones, such as "" and "?".
        rename: Values of the target to be read as others, such as ``{"<=50K.": "<=50K"}``.
        test_path: A second file with the test rows, of the same form; its header line is optional.
        delimiter: Between cells.
        standardise: Whether number features leave as (x - mean) / std, else as they are.
        validation: A fraction of the rows, or a count; None for 0.1.
        test: Likewise, taken out first; not with ``test_path``.
        seed: Which rows are taken out.

    Returns:
        Splits of rows ``(D,)`` of float32.

    Raises:
        DataError: The file, a column, a row or a cell is not as it must be; the line says where.
    """
    if not isinstance(target, str):
        raise DataError(
            f"csv target is {target!r}, expected the name of a column: a file without a header "
            "line gets names by columns."
        )
    if missing not in ("error", "mean"):
        raise DataError(f"csv missing is {missing!r}, expected 'error' or 'mean'.")
    if len(delimiter) != 1:
        raise DataError(f"csv delimiter is {delimiter!r}, expected one character.")
    if test_path is not None and test is not None:
        raise DataError(f"csv test is {test}, and test_path is given too: leave one of them out.")
    unknown = frozenset(MISSING if missing_values is None else missing_values)
    table = _read(path, "csv path", columns, delimiter, unknown, target)
    _known(target, "target", table)
    for name in (*(categorical or ()), *(ignore or ()), *(groups or ())):
        _known(name, "column", table)
    tables = {"train": table}
    if test_path is not None:
        names = list(table.columns)
        tables["test"] = _read(
            test_path, "csv test_path", names, delimiter, unknown, target, optional=True
        )
    labels = {split: _labels(part, target, rename or {}) for split, part in tables.items()}
    found = set(labels["train"])
    classes = sorted(found, key=float) if all(map(is_number, found)) else sorted(found)
    placed = _split(tables, labels, classes, validation, test, seed)
    features = [c for c in table.columns if c != target and c not in (ignore or ())]
    if not features:
        raise DataError(f"{table.path!r} has no column beside target {target!r}: nothing to learn.")
    rows = placed.train.ids.tolist()
    learnt = [learn(table, rows, name, name in (categorical or ())) for name in features]
    whole = torch.cat([_encoded(learnt, part, missing, standardise) for part in tables.values()])

    def filled(examples: Examples) -> TensorSet:
        ids = examples.ids
        return TensorSet(whole[ids], examples.targets, classes=classes, ids=ids, name=examples.name)

    origin = {
        "source": "csv",
        "path": table.path,
        "test_path": test_path,
        "target": target,
        "features": [feature for column in learnt for feature in column.features],
        "mean": [value for column in learnt for value in column.mean],
        "std": [value for column in learnt for value in column.std],
        "one_hot": [column.values is not None for column in learnt for _ in column.features],
        "standardised": standardise,
        "missing": missing,
        "seed": seed,
    }
    test_set = Sealed(filled(placed.test.open("encoding its rows")))
    fill = missing == "mean"
    return Splits(
        filled(placed.train),
        filled(placed.validation),
        test_set,
        "csv",
        tuple(classes),
        origin,
        by_columns(list(tables.values()), groups or ()),
        {"columns": [c.stated(unknown, fill=fill, scaled=standardise) for c in learnt]},
    )


def _encoded(
    learnt: Sequence[Column], table: Table, missing: str, standardise: bool
) -> torch.Tensor:
    features = []
    for column in learnt:
        encoded = column.encode(table, fill=missing == "mean")
        if standardise and column.values is None:
            encoded = (encoded - column.mean[0]) / column.std[0]
        features.append(encoded)
    return torch.cat(features, 1).float()


def _split(
    tables: dict[str, Table],
    labels: dict[str, list[str]],
    classes: list[str],
    validation: float | None,
    test: float | None,
    seed: int,
) -> Splits:
    """Splits of empty rows: who goes where must be known before anything is learnt from train."""
    if len(classes) < 2:
        raise DataError(f"the target of {tables['train'].path!r} has one value, {classes[0]!r}.")
    numbers = {label: number for number, label in enumerate(classes)}
    sets: dict[str, Examples] = {}
    start = 0
    for split, table in tables.items():
        targets = []
        for label, line in zip(labels[split], table.lines, strict=True):
            if label not in numbers:
                raise DataError(
                    f"line {line} of {table.path!r} has the class {label!r}, which train lacks. "
                    f"{suggest(label, classes)} Use rename to read it as another."
                )
            targets.append(numbers[label])
        ids = torch.arange(start, start + len(targets))
        start += len(targets)
        sets[split] = TensorSet(
            torch.zeros(len(ids), 1),
            torch.tensor(targets),
            classes=classes,
            ids=ids,
            name=f"csv {split}",
        )
    return split_up(sets, validation, test, seed, name="csv", origin={})


def _labels(table: Table, target: str, rename: dict[str, str]) -> list[str]:
    labels = []
    for cell, line in zip(table.column(target), table.lines, strict=True):
        if cell in table.missing:
            raise DataError(
                f"line {line} of {table.path!r} has no class ({target!r} is {cell!r}): "
                "fill it, or remove the line."
            )
        labels.append(rename.get(cell, cell))
    if len(set(labels)) > 1000:
        raise DataError(
            f"target {target!r} of {table.path!r} has {len(set(labels))} different values: "
            "a column of classes is expected."
        )
    return labels


def _known(name: str, what: str, table: Table) -> None:
    if name not in table.columns:
        raise DataError(
            f"{what} {name!r} is no column of {table.path!r}. {suggest(name, table.columns)}"
        )


def _read(
    path: str,
    what: str,
    columns: list[str] | None,
    delimiter: str,
    missing: frozenset[str],
    target: str,
    *,
    optional: bool = False,
) -> Table:
    """A CSV file; its first line is the header if ``columns`` is None, or if it may be one."""
    found = existing(path, what)
    rows, lines = [], []
    try:
        # newline="": the csv module alone decides what ends a line, so U+0085 and its like do not.
        with found.open(encoding="utf-8-sig", newline="") as file:
            reader = csv_format.reader(
                file, delimiter=delimiter, skipinitialspace=True, strict=True
            )
            for row in reader:
                cells = [cell.strip(" \t") for cell in row]
                if any(cells):
                    rows.append(cells)
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv_format.Error) as error:
        raise DataError(
            f"{what} {str(found)!r} cannot be read ({error}): save it as UTF-8 CSV."
        ) from error
    if not rows:
        raise DataError(f"{what} {str(found)!r} is empty: expected rows of cells.")
    names = rows[0] if columns is None else [str(name).strip() for name in columns]
    if columns is None and target not in names:
        _check_header(names, lines[0], str(found))
    _check_names(names, rows, lines, str(found), given=columns is not None)
    headed = columns is None or (optional and _is_header(rows, names, missing))
    if columns is not None and not headed and _is_header(rows, names, missing):
        raise DataError(
            f"line {lines[0]} of {str(found)!r} is a header ({rows[0][0]!r}, ...), and columns are "
            "given too: leave columns out, or remove the line."
        )
    if headed:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise DataError(f"{what} {str(found)!r} has a header and no rows: expected some.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise DataError(
                f"line {line} of {str(found)!r} has {len(row)} cells, expected {len(names)}: quote "
                f"cells that hold {delimiter!r}, or mend the line."
            )
    return Table(str(found), tuple(names), rows, lines, missing)


def _check_header(names: list[str], line: int, path: str) -> None:
    number = next((name for name in names if is_number(name)), None)
    if number is not None:
        raise DataError(
            f"line {line} of {path!r} should be a header, and has {number!r} as a name: "
            "give the names in columns."
        )


def _check_names(
    names: list[str], rows: list[list[str]], lines: list[int], path: str, *, given: bool
) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"columns of {path!r} repeat: {', '.join(map(repr, twice))}; rename them.")
    if given and len(rows[0]) != len(names):
        raise DataError(
            f"columns has {len(names)} names, and line {lines[0]} of {path!r} has {len(rows[0])} "
            "cells: give one name for each."
        )


def _is_header(rows: list[list[str]], names: list[str], missing: frozenset[str]) -> bool:
    """Whether the first row is a header: it repeats the names, or heads a column of numbers."""
    first = rows[0]
    if len(first) != len(names) or any(map(is_number, first)):
        return False

    def plain(cells: list[str]) -> list[str]:
        return [cell.lower().replace("-", "_") for cell in cells]

    def heads_numbers(index: int) -> bool:
        cells = [row[index] for row in rows[1:] if len(row) == len(names)]
        known = [cell for cell in cells if cell not in missing]
        return first[index] not in missing and bool(known) and all(map(is_number, known))

    return plain(first) == plain(names) or any(map(heads_numbers, range(len(names))))
