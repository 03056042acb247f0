"""Small drawings as SVG text in the page's colours: no library, no script, nothing loaded."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_WIDE, _HIGH, _LEFT, _LOW = 360, 150, 8, 24
_NOW, _THEN = "var(--student)", "var(--teacher)"
KEY = (
    '<p class="faint"><span class="teacher">■</span> reference · '
    '<span class="student">■</span> newest window</p>'
)


def histogram(reference: Array, window: Array, name: str, bins: int = 24) -> str:
    """Shares of both samples by value, as two outlines over the middle 99.8 % of all values."""
    both = np.concatenate([reference, window])
    low, high = np.quantile(both, [0.001, 0.999])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    shares = [_shares(sample, edges) for sample in (reference, window)]
    top = max(share.max() for share in shares)
    steps = zip(shares, (_THEN, _NOW), strict=True)
    drawn = "".join(_outline(share / top, colour) for share, colour in steps)
    ends = _text(_LEFT, _HIGH - 6, f"{low:.3g}", "start")
    ends += _text(_WIDE - _LEFT, _HIGH - 6, f"{high:.3g}", "end")
    return _svg(drawn + ends, f"{name}: reference and newest window.", _HIGH)


def bars(reference: Array, window: Array, names: Sequence[str], most: int = 20) -> str:
    """Shares of classes, side by side; the most changed ones where there are many."""
    shares = reference / reference.sum(), window / window.sum()
    changed = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:most]
    top = max(max(share[changed].max() for share in shares), 1e-9)
    drawn = ""
    for place, number in enumerate(sorted(changed)):
        y = 20 * place
        drawn += _text(118, y + 13, str(names[number])[:18], "end")
        for share, colour, down in ((shares[0], _THEN, 2), (shares[1], _NOW, 9)):
            width = 148 * share[number] / top
            drawn += (
                f'<rect x="124" y="{y + down}" width="{width:.1f}" height="6" fill="{colour}"/>'
            )
        told = f"{100 * shares[0][number]:.1f} → {100 * shares[1][number]:.1f} %"
        drawn += _text(_WIDE - 2, y + 13, told, "end", 10)
    return _svg(drawn, "Shares of the predicted classes.", 20 * len(changed) + 4)


def time_line(readings: Sequence[float], alarms: Sequence[bool], level: float) -> str:
    """The largest reading of each window, oldest first, and the level."""
    top = max(*readings, level) * 1.1
    low = min(0.0, *readings)

    def height(value: float) -> float:
        return (_HIGH - _LOW) * (1 - (value - low) / (top - low)) + 4

    step = (_WIDE - 2 * _LEFT) / max(1, len(readings) - 1)
    points = [(_LEFT + step * place, height(value)) for place, value in enumerate(readings)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = f'<polyline points="{path}" fill="none" stroke="var(--faint)"/>'
    for (x, y), alarm in zip(points, alarms, strict=True):
        colour = "var(--worse)" if alarm else _THEN
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
    y = height(level)
    drawn += (
        f'<line x1="0" x2="{_WIDE}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--worse)" '
        'stroke-dasharray="4 3"/>'
    )
    drawn += _text(_WIDE - 2, y - 4, "level", "end", 11)
    drawn += _text(_LEFT, _HIGH - 6, "oldest", "start") + _text(_WIDE - 2, _HIGH - 6, "now", "end")
    return _svg(drawn, "Largest reading of each window, and the level.", _HIGH)


def _shares(sample: Array, edges: Array) -> Array:
    counts, _ = np.histogram(np.clip(sample, edges[0], edges[-1]), edges)
    return np.asarray(counts / max(1, len(sample)))


def _outline(heights: Array, colour: str) -> str:
    step, tall = (_WIDE - 2 * _LEFT) / len(heights), _HIGH - _LOW - 6
    points = [(float(_LEFT), tall + 6.0)]
    for place, height in enumerate(heights):
        y = 6 + tall * (1 - float(height))
        points += [(_LEFT + step * place, y), (_LEFT + step * (place + 1), y)]
    points.append((_WIDE - _LEFT, tall + 6.0))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="{colour}" fill-opacity=".13" stroke="{colour}" '
        'stroke-width="1.5"/>'
    )


def _text(x: float, y: float, words: str, anchor: str, size: int = 12) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="var(--faint)">{escape(words)}</text>'
    )


def _svg(inner: str, description: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDE} {height}" role="img" aria-label="{escape(description)}">'
        f"{inner}</svg>"
    )
