"""Class numbers and log-probabilities in few bits, each row of them in the same number of bytes.

Elias: Efficient Storage and Retrieval by Content and Address of Static Files, 1974,
https://doi.org/10.1145/321812.321820.
"""

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import RecipeError

Bytes = NDArray[np.uint8]
_AT_ONCE = 2048  # rows unpacked together, so that all steps stay in a cache
_WIDEST = 25  # bits, which 4 bytes hold at any shift
STEPS = 254  # 0 to 254 are steps down from the largest; 255 is -inf
REACH = 32.0  # nats below the largest: what is rarer is put there


class PackedNumbers:
    """Sorted numbers below ``classes``, ``count`` a row, in about 2 + log2(classes / count) bits.

    The low bits of each number are written as they are; the rest, which never falls along a row,
    as one bit for each number, set apart by as many zeros as it rises by (Elias-Fano codes).
    Equal numbers are allowed. How many bits are low is what takes the fewest bytes.

    Args:
        count: Numbers of a row.
        classes: They are 0 to ``classes - 1``.

    Attributes:
        bytes: Of a row.

    Raises:
        RecipeError: There are too many classes.

    Example:
        >>> packed = PackedNumbers(8, 49_152)
        >>> row = np.array([[0, 5, 5, 700, 9_000, 9_001, 30_000, 49_151]])
        >>> packed.bytes, bool((packed.unpack(packed.pack(row)) == row).all())
        (15, True)
    """

    def __init__(self, count: int, classes: int):
        self._count, self._classes = count, classes
        most = max((classes - 1).bit_length(), 1)
        if most > _WIDEST:
            raise RecipeError(
                f"precision 'int8' packs numbers of up to {1 << _WIDEST:,} classes, and there are "
                f"{classes:,}: keep 'fp16'."
            )
        self._low = min(range(most + 1), key=lambda low: sum(self._sizes(low)))
        self._low_bytes, self._high_bytes = self._sizes(self._low)
        self.bytes = self._low_bytes + self._high_bytes
        starts = np.arange(count) * self._low
        self._first, self._shift = starts >> 3, (starts & 7).astype(np.uint32)

    def _sizes(self, low: int) -> tuple[int, int]:
        """Bytes of the low bits of a row, and of the rest."""
        high = (self._classes - 1) >> low
        return -(-self._count * low // 8), -(-(high + self._count) // 8) if high else 0

    def pack(self, numbers: NDArray[np.int64]) -> Bytes:
        """Rows ``(M, count)``, each sorted, as ``(M, bytes)``."""
        packed = np.empty((len(numbers), self.bytes), np.uint8)
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            out = packed[start : start + _AT_ONCE]
            if self._low:
                bits = (some[:, :, None] >> np.arange(self._low)) & 1
                flat = bits.reshape(len(some), -1).astype(np.uint8)
                out[:, : self._low_bytes] = np.packbits(flat, axis=1, bitorder="little")
            if self._high_bytes:
                ones = np.zeros((len(some), self._high_bytes * 8), np.uint8)
                places = (some >> self._low) + np.arange(self._count)
                np.put_along_axis(ones, places, 1, axis=1)
                out[:, self._low_bytes :] = np.packbits(ones, axis=1, bitorder="little")
        return packed

    def unpack(self, packed: Bytes) -> NDArray[np.int64]:
        """Rows ``(M, bytes)`` as numbers ``(M, count)``."""
        numbers = np.empty((len(packed), self._count), np.int64)
        for start in range(0, len(packed), _AT_ONCE):
            some = packed[start : start + _AT_ONCE]
            self._unpack(some, numbers[start : start + _AT_ONCE])
        return numbers

    def _unpack(self, packed: Bytes, numbers: NDArray[np.int64]) -> None:
        rows, low = len(packed), self._low
        if self._high_bytes:
            ones = np.unpackbits(packed[:, self._low_bytes :], bitorder="little").view(bool)
            places = np.flatnonzero(ones).reshape(rows, self._count)
            before = np.arange(rows)[:, None] * (self._high_bytes * 8) + np.arange(self._count)
            np.subtract(places, before, out=numbers)
            numbers <<= low
        else:
            numbers[...] = 0
        if low:
            bits = np.take(packed, self._first, axis=1).astype(np.uint32)
            for more in range(1, -(-(low + 7) // 8)):
                # Beyond the row's end nothing is needed, so the last byte will do.
                there = np.minimum(self._first + more, self.bytes - 1)
                bits |= np.take(packed, there, axis=1).astype(np.uint32) << np.uint32(8 * more)
            bits >>= self._shift
            bits &= np.uint32((1 << low) - 1)
            numbers |= bits


def in_bytes(log_p: NDArray[np.float32]) -> tuple[Bytes, NDArray[np.float16], NDArray[np.float16]]:
    r"""Log-probabilities in 8 bits each: steps down from the largest of their row.

    .. math:: c_i = \mathrm{round}\Big(254 \, \frac{l_{max} - l_i}{s}\Big), \quad
        s = \min(l_{max} - l_{min}, 32)

    What comes back (`from_bytes`) is off by at most s / 508, and by the rounding of the largest
    to fp16 (a 2048th of it): of a span of 8 nats, by 1.6 percent of a probability. Numbers more
    than 32 nats below the largest come back as 32 below it: 1e-14 of its probability.

    Args:
        log_p: ``(M, k)``; -inf stays what it is, but not in a whole row.

    Returns:
        Codes ``(M, k)``, and of each row the largest and the span, ``(M,)``.

    Example:
        >>> code, largest, span = in_bytes(np.float32([[-0.5, -2.0, -np.inf]]))
        >>> code.tolist(), from_bytes(code, largest, span).tolist()
        ([[0, 254, 255]], [[-0.5, -2.0, -inf]])
    """
    largest = log_p.max(axis=1).astype(np.float16)
    down = np.clip(largest.astype(np.float32)[:, None] - log_p, 0, None)
    nothing = np.isinf(down)
    down = np.minimum(down, REACH)
    span = np.where(nothing, 0, down).max(axis=1)
    half = span.astype(np.float16)
    half = np.where(half.astype(np.float32) < span, np.nextafter(half, np.float16(np.inf)), half)
    step = np.maximum(half.astype(np.float32), 1e-7)[:, None] / STEPS
    code = np.minimum(np.rint(down / step), STEPS).astype(np.uint8)
    code[nothing] = STEPS + 1
    return code, largest, half


def from_bytes(
    code: Bytes, largest: NDArray[np.float16], span: NDArray[np.float16]
) -> NDArray[np.float32]:
    """Log-probabilities ``(M, k)`` that `in_bytes` wrote."""
    step = span.astype(np.float32)[:, None] / -STEPS
    found = np.multiply(code, step, dtype=np.float32)
    found += largest.astype(np.float32)[:, None]
    nothing = code == STEPS + 1
    if nothing.any():
        found[nothing] = -np.inf
    return found
