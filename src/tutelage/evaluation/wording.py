"""Figures as people write them."""

from collections.abc import Mapping
from typing import Any

_LARGE = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
BACKENDS = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch", "openvino": "OpenVINO"}
BACKENDS |= {"torch_program": "torch.export", "executorch": "ExecuTorch"}
ROLES = {"teacher": "teacher", "student": "student", "baseline": "student alone"}
NAMES: Mapping[str, str] = {**ROLES, "control": "student of a random teacher"}
"""What people call the models on trial, by role."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent: ``93.7 %``.

    >>> percent(0.9366), percent(None)
    ('93.7 %', 'not measured')
    """
    return "not measured" if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float, *, sign: bool = True) -> str:
    """A difference of shares in percentage points, with a true minus sign.

    >>> points(0.0163), points(-0.02), points(0.02, sign=False)
    ('+1.6', '−2.0', '2.0')
    """
    text = f"{100 * difference:+.1f}" if sign else f"{100 * difference:.1f}"
    return text.replace("-", "−")


def span(interval: dict[str, Any]) -> str:
    """The ends of an interval of a difference, in points: ``+0.4 to +1.2``."""
    return f"{points(interval['low'])} to {points(interval['high'])}"


def large(number: float | None) -> str:
    """A count with a magnitude: ``0.29 M``.

    >>> large(294_123), large(61_706), large(950), large(40_551_040)
    ('294 k', '61.7 k', '950', '40.6 M')
    >>> large(999_950)
    '1.00 M'
    """
    if number is None:
        return "not counted"
    for scale, letter in _LARGE:
        if number >= 0.9995 * scale:  # 999,950 is 1 M
            return f"{number / scale:#.3g}".rstrip(".") + letter
    return f"{number:,.0f}"


def size(number: float | None) -> str:
    """Bytes: ``1.18 MB``, in powers of ten.

    >>> size(246_824), size(1_176_492)
    ('247 kB', '1.18 MB')
    """
    return (
        "not known"
        if number is None
        else large(number).replace(" ", " ") + ("B" if number >= 1000 else " B")
    )


def times(ratio: float) -> str:
    """How many times: ``12``, ``4.8``, ``1.05``.

    >>> times(12.34), times(4.81), times(1.049)
    ('12', '4.8', '1.05')
    """
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1.95 else f"{ratio:.2f}"


def milliseconds(value: float) -> str:
    """A time: ``0.21 ms``.

    >>> milliseconds(0.2134), milliseconds(12.34)
    ('0.213 ms', '12.3 ms')
    """
    return f"{value:#.3g}".rstrip(".") + " ms"


def gate_value(gate: Mapping[str, Any], key: str) -> str:
    """The ``value``, ``low``, ``high`` or ``threshold`` of a gate, with its unit.

    >>> gate_value({"value": 0.0249, "unit": "%"}, "value")
    '2.49 %'
    """
    value, unit = gate.get(key), gate["unit"]
    if value is None:
        return "not measured"
    if unit in ("%", "points"):
        shown = f"{100 * value:.3g}".replace("-", "−")
        return f"{shown} {'point' if shown == '1' and unit == 'points' else unit}"
    return f"{value:.3g} {unit}" if unit else large(value)


def gate_range(gate: Mapping[str, Any]) -> str:
    """The interval of a gate's figure, empty where it has none.

    >>> gate_range({"low": 0.012, "high": 0.0334, "unit": "points"})
    '1.2 to 3.34 points'
    """
    if gate.get("low") is None or gate.get("high") is None:
        return ""
    low, high = gate_value(gate, "low"), gate_value(gate, "high")
    number, _, unit = low.partition(" ")
    alike = unit.rstrip("s") == high.partition(" ")[2].rstrip("s")
    return f"{number if alike else low} to {high}"


def listing(words: list[str]) -> str:
    """Words as a sentence lists them.

    >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def threads(latency: dict[str, Any]) -> str:
    """Under what conditions a latency was measured."""
    backend = BACKENDS.get(latency["backend"], latency["backend"])
    many = "thread" if latency["threads"] == 1 else "threads"
    return f"{backend}, {latency['threads']} {many}, batch {latency['batch']}"
