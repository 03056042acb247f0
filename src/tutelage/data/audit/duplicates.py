"""Copies and near-copies, within a split and between splits."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.audit.descriptors import chunks, normalised
from tutelage.data.audit.neighbours import nearest
from tutelage.data.audit.pool import Pool
from tutelage.data.sets import Examples, as_float

NEIGHBOURS = 11
EXPECTED = 0.001
"""False alarms expected in a whole audit of clean data, as far as the model of `limit` holds. Real
data has heavier tails (one product photographed twice), so it is set low: noise of 8/255 leaves
copies in 30 random parts of Fashion-MNIST at ratios up to 0.17, products alike begin at 0.25."""
ALIKE = 0.95
"""Correlation of the whole images of a near-copy, at least."""
_FEWEST = 50  # rows below which neighbours say nothing
_LARGEST = 0.5  # ratio of distances that a near-copy may have at most, whatever `limit` says


@dataclass(frozen=True)
class Pairs:
    """Pairs of examples that are alike, nearest first.

    Attributes:
        first: Position of one ``(P,)``.
        second: Position of the other, in the same split or a later one ``(P,)``.
        ratio: Their distance over that to their eleventh neighbour, the larger of both sides
            ``(P,)``; 0 for exact copies.
    """

    first: Tensor
    second: Tensor
    ratio: Tensor

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Near:
    """What the search for near-copies rested on.

    Attributes:
        pairs: The near-copies.
        dimension: Intrinsic dimension of the data; None where it could not be estimated.
        limit: Ratio of distances below which a pair counts as a near-copy; None likewise.
        why: Why the search was left out, in a clause; None where it was not.
    """

    pairs: Pairs
    dimension: float | None
    limit: float | None
    why: str | None


def hashes(sets: Sequence[Examples]) -> list[bytes]:
    """A hash of the stored content of every example, in the order of the sets."""
    found = []
    for part in chunks(sets):
        rows = part.contiguous().flatten(1).numpy()
        rows = rows + 0.0 if part.is_floating_point() else rows  # -0.0 is 0.0
        found += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return found


def exact(sets: Sequence[Examples]) -> Pairs:
    """Exact copies: each paired with the first of its kind.

    Example:
        >>> from tutelage.data import TensorSet
        >>> twice = TensorSet(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
        >>> exact([twice]).second.tolist()
        [2]
    """
    seen: dict[bytes, int] = {}
    first, second = [], []
    for position, mark in enumerate(hashes(sets)):
        if mark in seen:
            first.append(seen[mark])
            second.append(position)
        else:
            seen[mark] = position
    return Pairs(torch.tensor(first).long(), torch.tensor(second).long(), torch.zeros(len(first)))


def dimension(distances: Tensor) -> float | None:
    """Intrinsic dimension of data, from how much farther the second neighbour is than the first.

    Where examples lie evenly on a surface of dimension d, the ratio of these distances, mu,
    exceeds x with probability x^-d; so d = ln 2 / ln(median of mu). Facco, d'Errico, Rodriguez,
    Laio: Estimating the intrinsic dimension of datasets by a minimal neighborhood information,
    arXiv 1803.06992 (there a fit over all ratios; the median does not mind copies in the data).

    Args:
        distances: To the nearest neighbours, ascending ``(N, at least 2)``.

    Returns:
        d; None where most ratios are 1 or unknown: such data lies on a grid.

    Example:
        >>> line = torch.rand(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> round(dimension(nearest(line, 2)[0]))
        1
    """
    apart = distances[distances[:, 0] > 0]
    mu = apart[:, 1] / apart[:, 0]
    if len(mu) < _FEWEST or float((mu > 1 + 1e-6).double().mean()) < 0.75:
        return None
    return math.log(2) / math.log(float(mu.median()))


def limit(dimension: float, count: int, k: int = NEIGHBOURS, expected: float = EXPECTED) -> float:
    """Below which ratio of distances, nearest over k-th neighbour, a pair is no chance.

    By the same model the k neighbours fill the ball evenly, so the ratio r1 / rk falls below x
    with probability ``1 - (1 - x^d)^(k-1) <= (k - 1) x^d``: among ``count`` examples ``expected``
    of them do at ``x = (expected / (count (k - 1)))^(1/d)``.

    >>> round(limit(12, 10_000), 2)
    0.22
    """
    return float(min(_LARGEST, (expected / (count * (k - 1))) ** (1 / dimension)))


def near(pool: Pool, rows: Tensor, copies: Pairs, *, confirm: bool) -> Near:
    """Near-copies: pairs far nearer to each other than either is to its other neighbours.

    Args:
        pool: The examples.
        rows: Their short rows (see `descriptors`).
        copies: Exact copies: of each kind one is searched.
        confirm: Whether whole images must be alike too.
    """
    kept = torch.ones(len(pool), dtype=torch.bool)
    kept[copies.second] = False
    kept &= rows.norm(dim=1) > 0
    places = kept.nonzero().flatten()
    none = Pairs(places[:0], places[:0], torch.zeros(0))
    if len(places) < _FEWEST:
        return Near(none, None, None, f"there are fewer than {_FEWEST} examples")
    distances, found = nearest(rows[places], NEIGHBOURS)
    d = dimension(distances)
    if d is None:
        why = "most examples have several neighbours at one distance: the data lies on a grid"
        return Near(none, None, None, why)
    most = limit(d, len(places))
    far = distances[:, -1].clamp_min(1e-12)
    ratio = torch.maximum(distances / far[:, None], distances / far[found])[:, :-1]
    who, which = (ratio <= most).nonzero(as_tuple=True)
    one, other = places[who], places[found[who, which]]
    once = one < other
    pairs = Pairs(one[once], other[once], ratio[who, which][once])
    if confirm and len(pairs):
        alike = _correlation(pool, pairs) >= ALIKE
        pairs = Pairs(pairs.first[alike], pairs.second[alike], pairs.ratio[alike])
    order = pairs.ratio.argsort(stable=True)
    pairs = Pairs(pairs.first[order], pairs.second[order], pairs.ratio[order])
    return Near(pairs, d, most, None)


def _correlation(pool: Pool, pairs: Pairs) -> Tensor:
    found = []
    for one, other in zip(
        torch.split(pairs.first, 256), torch.split(pairs.second, 256), strict=True
    ):
        a, b = (normalised(as_float(pool.read(each)).flatten(1)) for each in (one, other))
        found.append((a * b).sum(1))
    return torch.cat(found)
