"""All tests of inputs and predictions against a reference, as one family with one level."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.monitoring.columns import INPUTS, PREDICTIONS, Columns
from tutelage.monitoring.two_samples import (
    bin_edges,
    chi_square,
    kolmogorov_smirnov,
    median_bandwidth,
    stability_index,
    waved,
    waves,
)

Array = NDArray[Any]
KS, PSI, CHI, MMD = "Kolmogorov-Smirnov D", "stability index", "chi-square", "squared MMD"
_AT_ONCE = 250
_FARTHEST = 10.0  # deviations: what lies beyond counts as lying there


@dataclass(frozen=True)
class Named:
    """A test: what it tells of, what it looks at, and its statistic."""

    cause: str
    what: str
    kind: str


def room_for(size: int, have: int) -> None:
    """See that a reference of so many examples is enough for such windows.

    Raises:
        DataError: It has not twice as many.
    """
    if 2 * size > have:
        raise DataError(
            f"the reference has {have:,} examples, and a window of {size:,} needs twice as "
            f"many: give --window {have // 2} or less."
        )


class Family:
    """A reference made ready: for its own windows, and for windows of traffic.

    Statistics come multiplied by what makes them comparable between sizes of the two samples
    (``sqrt(nm / (n + m))`` for Kolmogorov-Smirnov, ``nm / (n + m)`` for the index and MMD), and as
    cube roots, which for sums of squares are nearly normal (Wilson and Hilferty, PNAS 1931).

    Args:
        reference: At least twice as many examples as a window has.

    Attributes:
        tests: In the order of the statistics.
    """

    def __init__(self, reference: Columns):
        self.reference, values = reference, reference.values
        self.tests = (
            *(Named(c, n, KS) for c, n in zip(reference.causes, reference.names, strict=True)),
            *(Named(c, n, PSI) for c, n in zip(reference.causes, reference.names, strict=True)),
            Named(PREDICTIONS, "mix of predicted classes", CHI),
            Named(INPUTS, "all inputs together", MMD),
        )
        self._order = np.argsort(values.T, axis=1, kind="stable")
        self._ordered = np.take_along_axis(values.T, self._order, 1)
        last = np.ones((values.shape[1], 1), bool)
        self._ends = np.concatenate([self._ordered[:, 1:] != self._ordered[:, :-1], last], axis=1)
        self._edges = [bin_edges(column) for column in self._ordered]
        self._bins = max(map(len, self._edges)) + 1
        self._counts = self._binned(values)
        self._classes = np.bincount(reference.classes, minlength=reference.count)
        inputs = reference.inputs.astype(np.float64)
        self._centre, self._scale = inputs.mean(0), inputs.std(0)
        self._scale[self._scale == 0] = 1.0
        self._points = self._standard(reference.inputs)
        self._waves = waves(inputs.shape[1], median_bandwidth(self._points))
        self._felt = waved(self._points, self._waves)

    def drawn(self, size: int, times: int, dice: np.random.Generator) -> Array:
        """Statistics of windows drawn from the reference, each against the rest of it.

        Args:
            size: Examples in a window, at most half of the reference.
            times: How many windows.
            dice: Where chance comes from.

        Returns:
            ``(times, J)``.

        Raises:
            DataError: The reference is too small.
        """
        have = len(self.reference)
        room_for(size, have)
        parts = []
        for begin in range(0, times, _AT_ONCE):
            count = min(_AT_ONCE, times - begin)
            picked = dice.random((count, have), dtype=np.float32).argpartition(size, axis=1)
            masks = np.zeros((count, have), np.float32)
            np.put_along_axis(masks, picked[:, :size], 1, axis=1)
            parts.append(self._of_masks(masks, size))
        return np.asarray(np.cbrt(np.concatenate(parts)))

    def statistics(self, window: Columns) -> Array:
        """Statistics of a window of traffic against the whole reference, ``(J,)``."""
        have, size = len(self.reference), len(window)
        scale = have * size / (have + size)
        ks = [
            kolmogorov_smirnov(ordered, column)
            for ordered, column in zip(self._ordered, window.values.T, strict=True)
        ]
        psi = self._index(self._binned(window.values), self._counts)
        classes = np.bincount(window.classes, minlength=window.count)
        felt = waved(self._standard(window.inputs), self._waves).mean(0)
        mmd = float(((felt - self._felt.mean(0)) ** 2).sum())
        found = [
            np.sqrt(scale) * np.array(ks),
            scale * psi,
            [float(chi_square(classes, self._classes))],
            [scale * mmd],
        ]
        return np.asarray(np.cbrt(np.concatenate(found)))

    def raw(self, statistics: Array, size: int) -> Array:
        """Statistics ``(..., J)`` as their formulas give them, for people."""
        have = len(self.reference)
        scale = have * size / (have + size)
        divisors = {KS: np.sqrt(scale), PSI: scale, CHI: 1.0, MMD: scale}
        return np.asarray(statistics**3 / np.array([divisors[test.kind] for test in self.tests]))

    def _of_masks(self, masks: Array, size: int) -> Array:
        """Statistics of windows given as 0 and 1 for every row of the reference, ``(B, M)``."""
        rest = masks.shape[1] - size
        scale = size * rest / (size + rest)
        counts = (masks @ self._bins_of_rows()).reshape(len(masks), -1, self._bins)
        psi = self._index(counts, self._counts - counts)
        hot = np.eye(self.reference.count, dtype=np.float32)[self.reference.classes]
        classes = masks @ hot
        chi = chi_square(classes, self._classes - classes)
        ks = np.stack([self._distance(mask, size) for mask in masks])
        mmd = self._discrepancy(masks, size)
        return np.concatenate(
            [np.sqrt(scale) * ks, scale * psi, chi[:, None], scale * mmd[:, None]], axis=1
        )

    def _distance(self, mask: Array, size: int) -> Array:
        """Kolmogorov-Smirnov of every column, window against rest, ``(J,)``."""
        rest = len(mask) - size
        apart = np.cumsum(mask[self._order], axis=1, dtype=np.float32)
        apart *= 1 / size + 1 / rest
        apart -= np.arange(1, len(mask) + 1, dtype=np.float32) / rest
        np.abs(apart, out=apart)
        apart *= self._ends
        return np.asarray(apart.max(1))

    def _discrepancy(self, masks: Array, size: int) -> Array:
        inside = masks @ self._felt
        outside = self._felt.sum(0) - inside
        apart = inside / size - outside / (masks.shape[1] - size)
        return np.asarray((apart**2).sum(1))

    def _binned(self, values: Array) -> Array:
        """Counts by column and bin, ``(J, K)``; bins that a column does not have are empty."""
        columns = zip(self._edges, values.T, strict=True)
        return np.stack(
            [
                np.bincount(np.searchsorted(edges, column, "left"), minlength=self._bins)
                for edges, column in columns
            ]
        )

    def _bins_of_rows(self) -> Array:
        """1 where a row of the reference lies in a bin of a column, ``(M, J K)``."""
        hot = np.zeros((len(self.reference), len(self._edges), self._bins), np.float32)
        rows = np.arange(len(hot))
        for place, edges in enumerate(self._edges):
            column = self.reference.values[:, place]
            hot[rows, place, np.searchsorted(edges, column, "left")] = 1
        return np.asarray(hot.reshape(len(hot), -1))

    def _index(self, first: Array, second: Array) -> Array:
        """The stability index over the bins that each column has."""
        found = np.zeros(first.shape[:-1])
        for place, edges in enumerate(self._edges):
            bins = slice(0, len(edges) + 1)
            found[..., place] = stability_index(first[..., place, bins], second[..., place, bins])
        return found

    def _standard(self, inputs: Array) -> Array:
        points = (inputs - self._centre) / self._scale
        return np.asarray(np.clip(points, -_FARTHEST, _FARTHEST), dtype=np.float32)
