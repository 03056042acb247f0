"""What ``report.json`` must hold: tools outside this project rely on it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.core.errors import DataError

Check = Callable[[Any, str], None]


def validate_report(report: Mapping[str, Any]) -> None:
    """Check plain data against the schema of ``report.json``, version 1.

    Keys named here must be there and hold what is said; more keys are allowed. ``compression`` may
    be left out. No number may be NaN or infinite anywhere.

    Args:
        report: What ``json.load`` returned.

    Raises:
        DataError: One line with the path of the first thing that is wrong.
    """
    _REPORT(report, "report")
    if report.get("compression") is not None:
        _COMPRESSION(report["compression"], "report.compression")
    _finite(report, "report")


def _number(value: Any, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{place} is {value!r}: a number is needed.")


def _count(value: Any, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{place} is {value!r}: a whole number of at least 0 is needed.")


def _share(value: Any, place: str) -> None:
    _number(value, place)
    if not 0 <= value <= 1:
        raise DataError(f"{place} is {value!r}: a share from 0 to 1 is needed.")


def _text(value: Any, place: str) -> None:
    if not isinstance(value, str):
        raise DataError(f"{place} is {value!r}: text is needed.")


def _truth(value: Any, place: str) -> None:
    if not isinstance(value, bool):
        raise DataError(f"{place} is {value!r}: true or false is needed.")


def _anything(value: Any, place: str) -> None:
    """No demand."""


def _version(value: Any, place: str) -> None:
    if value != 1:
        raise DataError(f"{place} is {value!r}: version 1 is known here.")


def _table(**keys: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if not isinstance(value, Mapping):
            raise DataError(f"{place} is {type(value).__name__}: an object is needed.")
        for key, inner in keys.items():
            name = key.rstrip("_")
            if name not in value:
                raise DataError(f"{place} has no {name!r}: it needs one.")
            inner(value[name], f"{place}.{name}")

    return check


def _list(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            raise DataError(f"{place} is {type(value).__name__}: a list is needed.")
        for index, item in enumerate(value):
            inner(item, f"{place}[{index}]")

    return check


def _or_null(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if value is not None:
            inner(value, place)

    return check


def _finite(value: Any, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{place} is {value}: JSON holds finite numbers only, write null.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _finite(inner, f"{place}.{key}")
    if isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _finite(inner, f"{place}[{index}]")


_LATENCY = _table(p50=_number, p99=_number, backend=_text, threads=_count, batch=_count)
_MODEL = _table(
    name=_text,
    accuracy=_or_null(_share),
    nll=_or_null(_number),
    ece=_or_null(_share),
    brier=_or_null(_number),
    collapsed=_or_null(_text),
    parameters=_count,
    bytes=_count,
    macs=_or_null(_count),
    latency_ms=_LATENCY,
    latency_more=_list(_LATENCY),
)
_INTERVAL = _table(mean=_number, low=_number, high=_number, level=_share, method=_text)
_CLASS = _table(
    class_=_text,
    examples=_count,
    teacher=_or_null(_share),
    student=_or_null(_share),
    baseline=_or_null(_share),
    delta=_or_null(_number),
    low=_or_null(_number),
    high=_or_null(_number),
    clear=_truth,
)
_GATE = _table(
    name=_text,
    passed=_truth,
    value=_or_null(_number),
    low=_or_null(_number),
    high=_or_null(_number),
    threshold=_number,
    by=_text,
    evidence=_text,
)
_REPORT = _table(
    schema=_version,
    recipe=_anything,
    seed=_count,
    models=_table(teacher=_or_null(_MODEL), student=_MODEL, baseline=_or_null(_MODEL)),
    comparison=_table(
        agreement=_or_null(_share),
        predictive_kl=_or_null(_number),
        jensen_shannon=_or_null(_number),
        negative_flip_rate=_or_null(_share),
        positive_flip_rate=_or_null(_share),
        accuracy_change=_or_null(_INTERVAL),
        control=_or_null(_table(agreement=_share, predictive_kl=_number)),
        per_class=_list(_CLASS),
        seeds=_list(_table(seed=_count, student=_or_null(_share), baseline=_or_null(_share))),
        gain=_or_null(_INTERVAL),
        mcnemar=_or_null(_table(p=_share)),
    ),
    gates=_list(_GATE),
    environment=_table(),
    notes=_list(_text),
)
_POINT = _table(
    name=_text,
    file=_text,
    bytes=_count,
    parameters=_count,
    latency_ms=_LATENCY,
    accuracy=_INTERVAL,
    accuracy_drop=_INTERVAL,
    dominated=_truth,
    stages=_list(_table(stage=_text, options=_table())),
)
_COMPRESSION = _table(
    points=_list(_POINT),
    failed=_table(),
    budget=_table(),
    prefer=_text,
    chosen=_or_null(_text),
    validation=_count,
    gate=_GATE,
    test=_or_null(_table(examples=_count, accuracy=_INTERVAL, against=_table())),
)
