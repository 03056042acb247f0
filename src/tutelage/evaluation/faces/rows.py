"""The models' figures as rows: what every face of the report (page, terminal, card) shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.evaluation.wording import ROLES, large, milliseconds, percent, size, threads

Cell = tuple[str, str]
"""A figure, and what stands smaller behind it; empty where nothing does."""


@dataclass(frozen=True)
class Row:
    """One kind of figure: a cell for each model, and a sentence on what it means."""

    name: str
    cells: list[Cell]
    meaning: str


def model_roles(models: Mapping[str, Any]) -> list[str]:
    """The models that there are, in the order they are shown."""
    return [role for role in ROLES if models.get(role) is not None]


def model_rows(models: Mapping[str, Any]) -> list[Row]:
    """All figures of the models of a report.

    Args:
        models: The ``models`` of a report.

    Returns:
        Rows whose cells are in the order of `model_roles`.
    """
    shown = [models[role] for role in model_roles(models)]

    def row(name: str, cell: Callable[[Mapping[str, Any]], Cell], meaning: str) -> Row:
        return Row(name, [cell(model) for model in shown], meaning)

    rows = [
        row(
            "Accuracy",
            _accuracy,
            "Share of right answers on examples never seen; smaller, the range of its true value.",
        ),
        row(
            "NLL",
            lambda m: (_decimal(m["nll"]), ""),
            "How surprised it is by the truth: lower is better, surely wrong costs most.",
        ),
        row(
            "ECE",
            lambda m: (percent(m["ece"]), ""),
            "By how much its confidence differs from how often it is right; lower is better.",
        ),
        row("Parameters", lambda m: (large(m["parameters"]), ""), "Numbers it has learned."),
        row("Size", lambda m: (size(m["bytes"]), ""), "Of its weights, 32 bits each."),
    ]
    if any(model["file_bytes"] for model in shown):
        rows.append(row("File", lambda m: (_file(m), ""), "As it is shipped."))
    rows.append(
        row(
            "MACs",
            lambda m: (large(m["macs"]), ""),
            "Multiplications, each with an addition, for one answer.",
        )
    )
    return rows + _latencies(shown)


def _latencies(shown: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row for each way of measuring, in the order they first appear."""
    taken = [{threads(m): m for m in (s["latency_ms"], *s["latency_more"])} for s in shown]
    ways = list(dict.fromkeys(way for times in taken for way in times))
    return [
        Row(
            f"Latency, {way}",
            [_time(times.get(way)) for times in taken],
            "Time of the usual call; smaller, of the slowest in a hundred.",
        )
        for way in ways
    ]


def _time(latency: Mapping[str, Any] | None) -> Cell:
    if latency is None:
        return "–", ""
    return milliseconds(latency["p50"]), milliseconds(latency["p99"])


def _accuracy(model: Mapping[str, Any]) -> Cell:
    if model["accuracy"] is None:
        return "not measured", ""
    ends = model["accuracy_interval"]
    return percent(model["accuracy"]), f"{100 * ends['low']:.1f} to {100 * ends['high']:.1f}"


def _file(model: Mapping[str, Any]) -> str:
    return size(model["file_bytes"]) if model["file_bytes"] else "–"


def _decimal(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3f}"
