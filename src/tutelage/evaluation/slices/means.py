"""Clusters by k-means: the same for the same seed, whatever else was drawn before."""

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator

_ROUNDS = 50


def kmeans(points: Tensor, clusters: int, *, seed: int, rounds: int = _ROUNDS) -> Tensor:
    """Centres of clusters, by Lloyd's rounds from a k-means++ start.

    The first centre is drawn at random, each further one with a chance in proportion to its
    squared distance to the nearest so far; then points go to their nearest centre and centres to
    the mean of their points, until nothing moves. A centre that loses all points stays.

    Args:
        points: ``(N, D)``, scaled alike in all directions by the caller.
        clusters: How many, at most N.
        seed: Of the first centres.
        rounds: At most so many.

    Returns:
        ``(clusters, D)`` of float64.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> kmeans(points, 2, seed=0).sort(0).values.flatten().tolist()
        [0.05..., 5.04...]

    Papers: Lloyd, IEEE Transactions on Information Theory 28:129, 1982; Arthur and Vassilvitskii,
    "k-means++", SODA 2007.
    """
    if points.ndim != 2 or not 1 <= clusters <= len(points):
        raise DataError(
            f"{clusters} clusters of points of shape {tuple(points.shape)} were asked for: give "
            "(N, D) and 1 <= clusters <= N."
        )
    points = points.double()
    if not bool(points.isfinite().all()):
        raise DataError("some points are NaN or infinite: they have no nearest centre.")
    centres = _first(points, clusters, generator(seed, "k-means", clusters))
    for _ in range(rounds):
        place = nearest(points, centres)
        count = torch.bincount(place, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, place, points)
        moved = torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre of each point, ``(N,)``; of equally near ones the first.

    Example:
        >>> nearest(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [5.0]])).tolist()
        [0, 1]
    """
    return _squares(points.double(), centres.double()).argmin(1)


def _first(points: Tensor, clusters: int, dice: torch.Generator) -> Tensor:
    chosen = [int(torch.randint(len(points), (1,), generator=dice))]
    away = _squares(points, points[chosen])[:, 0]
    for _ in range(clusters - 1):
        # All points stand on centres: any will do.
        weights = away if bool(away.sum() > 0) else torch.ones_like(away)
        chosen.append(int(torch.multinomial(weights, 1, generator=dice)))
        away = torch.minimum(away, _squares(points, points[chosen[-1:]])[:, 0])
    return points[chosen]


def _squares(points: Tensor, centres: Tensor) -> Tensor:
    # Without the matrix trick: it loses digits where points lie close together, far from 0.
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
