"""Whether arrays are what the model takes: names, shapes, types, numbers, range."""

from collections.abc import Mapping

import numpy as np

from tutelage.core.errors import suggest
from tutelage.deployment.serving.model import Stated
from tutelage.deployment.serving.refused import Refused

_SLACK = 1e-6  # of the stated range: what decimals lose


def fitted(
    given: Mapping[str, np.ndarray], inputs: Mapping[str, Stated], most: int
) -> dict[str, np.ndarray]:
    """Arrays ``(N, *shape)`` of the stated types, N from 1 to ``most``.

    Args:
        given: By name: one example each, or several along a first axis.
        inputs: What the model takes.
        most: Examples of one request.

    Raises:
        Refused: 422 with the first thing that is wrong; 413 for too many examples.

    Example:
        >>> x = {"x": Stated((2,), "float32", (0, 1))}
        >>> fitted({"x": np.array([0.5, 1])}, x, 8)["x"].shape
        (1, 2)
    """
    for name in given:
        if name not in inputs:
            raise Refused(422, f"there is no input {name!r:.60}. {suggest(name[:60], inputs)}")
    missing = sorted(set(inputs) - set(given))
    if missing:
        raise Refused(422, f"the input {missing[0]!r} is missing.")
    found = {name: _one(name, given[name], stated, most) for name, stated in inputs.items()}
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise Refused(422, f"inputs differ in number: {told}.")
    return found


def _one(name: str, array: np.ndarray, stated: Stated, most: int) -> np.ndarray:
    if array.shape == stated.shape:
        array = array[None]
    if array.ndim != len(stated.shape) + 1 or array.shape[1:] != stated.shape:
        raise Refused(
            422,
            f"{name} has the shape {_words(array.shape)}, and {_words(stated.shape)} is one "
            f"example, (N, {', '.join(map(str, stated.shape))}) are several.",
        )
    if len(array) == 0:
        raise Refused(422, f"{name} holds no example.")
    if len(array) > most:
        raise Refused(413, f"{len(array)} examples in one request, at most {most} are taken.")
    return _typed(name, array, stated)


def _typed(name: str, array: np.ndarray, stated: Stated) -> np.ndarray:
    wanted = np.dtype(stated.dtype)
    if wanted.kind == "f":
        if array.dtype.kind == "b":
            raise Refused(422, f"{name} holds true and false, and numbers are needed.")
        with np.errstate(over="ignore"):
            typed = np.ascontiguousarray(array, dtype=wanted)
        _finite(name, typed, stated)
        return typed
    if wanted.kind == "b" and array.dtype.kind != "b":
        raise Refused(422, f"{name} holds numbers, and true and false are needed.")
    if wanted.kind in "iu":
        if array.dtype.kind not in "iu":
            raise Refused(422, f"{name} must hold whole numbers ({stated.dtype}).")
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise Refused(422, f"{name} holds numbers that no {stated.dtype} can hold.")
        _within(name, array, stated)
    return np.ascontiguousarray(array, dtype=wanted)


def _finite(name: str, typed: np.ndarray, stated: Stated) -> None:
    # One pass where all is well: NaN fails both comparisons.
    low, high = typed.min(initial=np.inf), typed.max(initial=-np.inf)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Refused(422, f"{name} holds NaN or infinite numbers.")
    _within(name, typed, stated)


def _within(name: str, array: np.ndarray, stated: Stated) -> None:
    if stated.range is None:
        return
    low, high = float(array.min()), float(array.max())
    if low < stated.range[0] - _SLACK or high > stated.range[1] + _SLACK:
        least, most = stated.range
        bytes_ = " (divide stored bytes by 255)" if (least, most) == (0, 1) and high > 2 else ""
        raise Refused(
            422,
            f"{name} goes from {low:.6g} to {high:.6g}, and {least} to {most} is taken{bytes_}.",
        )


def _words(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})" if len(shape) < 9 else f"of {len(shape)} axes"
