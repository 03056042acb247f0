"""Tests of answers that can be told right from wrong: by labels, a teacher or a shadow model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.monitoring.family import Named, room_for

Array = NDArray[Any]
ACCURACY, DISAGREEMENT = "accuracy", "disagreement"
SHARE, ECE = "share above the reference's", "calibration error"


def calibration_error(confidence: Array, hits: Array, bins: int = 15) -> float:
    """Expected calibration error, ``sum_b n_b / N · |accuracy_b - confidence_b|``, equal widths.

    Args:
        confidence: Of each answer, 0 to 1, ``(N,)``.
        hits: Which were right, ``(N,)``.
        bins: Of equal width, closed on the right.

    Example:
        >>> round(calibration_error(np.array([0.8, 0.8]), np.array([True, False])), 2)
        0.3

    Paper: Guo et al., ICML 2017, arXiv 1706.04599.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=hits - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(hits))


class Rightness:
    """A reference of right and wrong answers, made ready for windows of others.

    Args:
        hits: Which answers of the reference are right, ``(N,)`` of bool.
        confidence: Of these answers; None where calibration is not looked at.
        cause: ``accuracy`` or ``disagreement``.
        what: What a wrong answer is, for people.

    Attributes:
        tests: In the order of the statistics.
    """

    def __init__(self, hits: Array, confidence: Array | None, cause: str, what: str):
        self.hits, self.confidence = hits.astype(bool), confidence
        self.wrong = 1 - float(self.hits.mean())
        known = (Named(cause, what, SHARE),)
        self.tests = known if confidence is None else (*known, Named(cause, "calibration", ECE))

    def __len__(self) -> int:
        return len(self.hits)

    def drawn(self, size: int, times: int, dice: np.random.Generator) -> Array:
        """Statistics of windows drawn from the reference, each against the rest, ``(times, J)``.

        Raises:
            DataError: The reference is too small.
        """
        have = len(self)
        room_for(size, have)
        rows = dice.random((times, have), dtype=np.float32).argpartition(size, axis=1)[:, :size]
        wrong = (~self.hits)[rows].mean(1)
        rest = ((~self.hits).sum() - wrong * size) / (have - size)
        shares = (wrong - rest) * np.sqrt(size * (have - size) / have)
        if self.confidence is None:
            return np.asarray(shares[:, None])
        errors = [calibration_error(self.confidence[row], self.hits[row]) for row in rows]
        return np.stack([shares, np.cbrt(errors)], axis=1)

    def statistics(self, hits: Array, confidence: Array | None) -> Array:
        """Statistics of a window against the whole reference, ``(J,)``."""
        size, have = len(hits), len(self)
        apart = 1 - hits.mean() - self.wrong
        found = [apart * np.sqrt(size * have / (size + have))]
        if self.confidence is not None and confidence is not None:
            found.append(np.cbrt(calibration_error(confidence, hits)))
        return np.array(found)

    def raw(self, statistics: Array, size: int) -> Array:
        """Statistics for people: the share of wrong answers, and the calibration error."""
        have = len(self)
        shown = np.array(statistics)
        shown[..., 0] = self.wrong + shown[..., 0] / np.sqrt(size * have / (size + have))
        shown[..., 1:] = shown[..., 1:] ** 3
        return shown
