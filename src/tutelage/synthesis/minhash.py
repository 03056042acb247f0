"""Texts that are nearly the same, found without comparing every two."""

from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tutelage.core.seeds import derive
from tutelage.synthesis.words import in_a_row, words_of


def shingles(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """The n-grams of words of a text; of a shorter one all its words as one.

    >>> sorted(shingles("a b c", 2))
    [('a', 'b'), ('b', 'c')]
    >>> sorted(shingles("a", 2))
    [('a',)]
    """
    words = words_of(text)
    return frozenset(in_a_row(words, min(n, len(words)))) if words else frozenset()


def jaccard(a: frozenset[Hashable], b: frozenset[Hashable]) -> float:
    r"""Shared shingles over all shingles.

    .. math:: J(A, B) = \frac{|A \cap B|}{|A \cup B|}

    >>> jaccard(frozenset("ab"), frozenset("bc"))
    0.3333333333333333
    """
    union = len(a | b)
    return len(a & b) / union if union else 1.0


class MinHash:
    r"""Signatures of which any place agrees with probability `jaccard`.

    Each of ``bands * rows`` functions h(x) = (a x + b) mod 2^64, a odd, orders all shingles anew;
    the signature holds the least of each. Two texts meet in a bucket if a band of rows agrees:

    .. math:: p = 1 - (1 - J^{rows})^{bands}

    Broder: On the Resemblance and Containment of Documents, 1997,
    https://doi.org/10.1109/SEQUEN.1997.666900

    Args:
        bands: Chances to meet.
        rows: Places that must agree in one.
        seed: Of the functions.
    """

    def __init__(self, bands: int = 32, rows: int = 4, seed: int = 0):
        self.bands, self.rows = bands, rows
        places = range(bands * rows)
        factors = [derive(seed, "minhash factor", i) * 2 + 1 for i in places]
        offsets = [derive(seed, "minhash offset", i) * 2 + i % 2 for i in places]
        self._factors = np.array(factors, dtype=np.uint64)[:, None]  # (K, 1)
        self._offsets = np.array(offsets, dtype=np.uint64)[:, None]

    def signature(self, found: Iterable[Sequence[str]]) -> NDArray[np.uint64]:
        """The least value of each function over shingles, ``(K,)``; of none the greatest number."""
        names = ["\x1f".join(each).encode() for each in found]
        digests = [blake2b(name, digest_size=8).digest() for name in names]
        hashes = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
        if not len(hashes):
            return np.full(len(self._factors), np.iinfo(np.uint64).max, dtype=np.uint64)
        least: NDArray[np.uint64] = (self._factors * hashes + self._offsets).min(axis=1)
        return least

    def buckets(self, signature: NDArray[np.uint64]) -> list[tuple[int, bytes]]:
        """Where a text lies: one bucket for each band."""
        bands = signature.reshape(self.bands, self.rows)
        return [(number, band.tobytes()) for number, band in enumerate(bands)]
