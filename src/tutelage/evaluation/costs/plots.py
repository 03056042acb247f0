"""Pictures of cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.faces.plots import _ARMS, _MARKS, _figure, _legend, _svg
from tutelage.evaluation.wording import BACKENDS, ROLES

_APART = 0.22  # of two models on the line of one condition


def latencies(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each condition: from the usual call to the slow one, of each model.

    Args:
        rows: ``role``, ``backend``, ``threads``, ``batch``, ``p50`` and ``p99`` in milliseconds.
    """
    ways = list(dict.fromkeys((r["backend"], r["threads"], r["batch"]) for r in rows))
    figure, axes = _figure(5.4, 1.1 + 0.5 * len(ways))
    shown = [role for role in _ARMS if any(row["role"] == role for row in rows)]
    for place, role in enumerate(shown):
        for number, row in enumerate(r for r in rows if r["role"] == role):
            line = ways.index((row["backend"], row["threads"], row["batch"]))
            height = line + _APART * (place - (len(shown) - 1) / 2)
            axes.plot([row["p50"], row["p99"]], [height] * 2, color=_ARMS[role], linewidth=1.6)
            axes.plot(
                [row["p50"]],
                [height],
                color=_ARMS[role],
                marker=_MARKS[role],
                markersize=6,
                linestyle="none",
                label=ROLES[role] if number == 0 else None,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(ways)), [_way(*way) for way in ways])
    axes.set_ylim(len(ways) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("milliseconds a call, p50 (mark) to p99 (end of the line)")
    _legend(axes)
    axes.get_legend().set_bbox_to_anchor((-0.3, 1.0))  # type: ignore[union-attr]
    return _svg(figure, "latency", "Time of a call of each model under each condition.")


def _way(backend: str, threads: int, batch: int) -> str:
    many = "1 thread" if threads == 1 else f"{threads} threads"
    name = BACKENDS.get(backend, backend).replace("ONNX Runtime", "ONNX")
    return f"{name}, {many},\nbatch {batch}"
