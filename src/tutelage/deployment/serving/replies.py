"""What is answered: predictions as JSON, and errors as one line."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tutelage.deployment.serving.model import ServedModel

_MANY = 20  # classes, beyond which only the most probable five are told


def error(line: str) -> bytes:
    """The body of every refusal.

    >>> error("send JSON")
    b'{"error": "send JSON"}'
    """
    return json.dumps({"error": line}, ensure_ascii=False).encode()


def predictions(
    model: ServedModel, logits: np.ndarray, shares: np.ndarray, *, top: int | None, raw: bool
) -> bytes:
    """The body of an answer.

    Args:
        model: Who answered.
        logits: ``(n, C)``.
        shares: Probabilities ``(n, C)``.
        top: How many classes to tell; None for all, or five where there are more than twenty.
        raw: Whether logits are told too.
    """
    labels = model.labels
    count = top or (len(labels) if len(labels) <= _MANY else 5)
    rows = []
    for number, row in enumerate(shares.tolist()):
        found = _prediction(labels, row, min(count, len(labels)))
        if raw:
            found["logits"] = logits[number].astype(float).tolist()
        rows.append(found)
    told = {"model": model.name, "version": model.version, "predictions": rows}
    return json.dumps(told, ensure_ascii=False).encode()


def _prediction(labels: Sequence[str], row: list[float], count: int) -> dict[str, Any]:
    best = max(range(len(row)), key=row.__getitem__)
    places: Sequence[int] = range(len(row))
    if count < len(row):
        places = sorted(places, key=row.__getitem__, reverse=True)[:count]
    return {
        "label": labels[best],
        "probability": row[best],
        "probabilities": {labels[place]: row[place] for place in places},
    }
