"""A record's checksum: it finds accidents, not forgers."""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""Records as rows of 8-byte words ``(N, W)``."""

_GOLDEN, _MIX1, _MIX2 = (
    np.array([n], np.uint64)
    for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # as in core/seeds.py
)


def weights_of(words: int) -> Words:
    """What the words of a record are multiplied by ``(W,)``."""
    # Odd weights: a change within one word always changes its product.
    position = np.arange(1, words + 1, dtype=np.uint64)
    weights: Words = position * _GOLDEN | np.uint64(1)
    return weights


def tags_of(words: Words, weights: Words, salt: Words) -> NDArray[np.uint32]:
    """Checksums ``(N,)`` of records whose own are 0; ``salt`` ``(N,)`` says where they belong."""
    mixed = words * weights
    mixed ^= mixed >> np.uint64(29)
    total = mixed.sum(axis=1, dtype=np.uint64) + salt
    total = (total ^ (total >> np.uint64(30))) * _MIX1
    total = (total ^ (total >> np.uint64(27))) * _MIX2
    tags: NDArray[np.uint32] = (total >> np.uint64(32)).astype(np.uint32)
    tags[tags == 0] = 1  # 0 is what was never written
    return tags


def salts(seed: int, view: int, rows: NDArray[np.int64]) -> Words:
    """What makes a record's checksum its own ``(N,)``: a record in a wrong place is no record."""
    start = np.array([seed], np.uint64) + np.array([view + 1], np.uint64) * _MIX1
    salted: Words = start + (rows.astype(np.uint64) + np.uint64(1)) * _MIX2
    return salted
