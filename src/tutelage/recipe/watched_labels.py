"""Labels that come back after the answers: read from a file, and joined with the traffic."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError, suggest
from tutelage.deployment.traffic import Traffic
from tutelage.monitoring.columns import probabilities

Array = NDArray[Any]
_NEAR = 5e-7  # seconds: how exactly a time must be that of a row


@dataclass(frozen=True)
class Labelled:
    """Answers that were told right from wrong, in their order.

    Attributes:
        hits: Which were right, ``(N,)`` of bool.
        confidence: Of each, NaN where it is not known, ``(N,)``.
        versions: What answered, empty where it is not known.
    """

    hits: Array
    confidence: Array
    versions: list[str]


def read_labels(path: Path, traffic: Traffic, names: tuple[str, ...]) -> Labelled:
    """Read a CSV file with a head.

    Either ``time,label`` (the time of a row of the traffic log, in seconds since 1970), or
    ``label,predicted`` and perhaps ``confidence`` and ``version``, as the caller kept them. Labels
    are names or numbers of classes.

    Raises:
        DataError: With the line that is wrong.
    """
    rows = _rows(path)
    columns = set(rows[0])
    if {"time", "label"} <= columns:
        return _joined(rows, path, traffic, names)
    if not {"label", "predicted"} <= columns:
        raise DataError(
            f"{path} has the columns {', '.join(rows[0])}: time,label or label,predicted (and "
            "perhaps confidence, version) are needed."
        )
    count = traffic.logits.shape[1]
    pairs = [
        (
            _class(row["label"], names, count, path, n),
            _class(row["predicted"], names, count, path, n),
        )
        for n, row in enumerate(rows, 2)
    ]
    sure = [_share(row.get("confidence"), path, n) for n, row in enumerate(rows, 2)]
    hits = np.array([label == predicted for label, predicted in pairs])
    return Labelled(hits, np.array(sure), [row.get("version") or "" for row in rows])


def _joined(
    rows: list[dict[str, str]], path: Path, traffic: Traffic, names: tuple[str, ...]
) -> Labelled:
    places, labels = [], []
    for number, row in enumerate(rows, 2):
        time = _number(row["time"], path, number)
        near = np.flatnonzero(np.abs(traffic.times - time) < _NEAR)
        if len(near) > 1:
            raise DataError(f"{path}, line {number}: {len(near)} rows of the log have that time.")
        if len(near):
            places.append(int(near[0]))
            labels.append(_class(row["label"], names, traffic.logits.shape[1], path, number))
    if not places:
        raise DataError(f"{path}: none of its {len(rows)} times is that of a row of the log.")
    order = np.argsort(places, kind="stable")
    found, told = np.array(places)[order], np.array(labels)[order]
    shares = probabilities(traffic.logits[found].astype(np.float64))
    versions = [traffic.versions[place] for place in found]
    return Labelled(shares.argmax(1) == told, shares.max(1), versions)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"there is no file of labels {str(path)!r}: check its path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {str(key).strip(): (value or "") for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}.") from error
    if not rows:
        raise DataError(f"{path} holds no labels below its head.")
    return rows


def _class(text: str, names: tuple[str, ...], count: int, path: Path, line: int) -> int:
    word = text.strip()
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < count:
        return int(word)
    known = names or tuple(map(str, range(count)))
    raise DataError(f"{path}, line {line}: {word!r:.60} is no class. {suggest(word, known)}")


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {text!r:.60} is no number.") from error


def _share(text: str | None, path: Path, line: int) -> float:
    if not text:
        return float("nan")
    found = _number(text, path, line)
    if not 0 <= found <= 1:
        raise DataError(f"{path}, line {line}: the confidence {text} is not from 0 to 1.")
    return found
