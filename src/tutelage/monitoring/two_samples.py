"""How far two samples lie apart: four statistics, each from its formula."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_FOR_MEDIAN = 1000


def kolmogorov_smirnov(first: Array, second: Array) -> float:
    """Largest distance of two empirical distribution functions, ``max_x |F(x) - G(x)|``.

    Args:
        first: Numbers, ``(N,)``.
        second: Numbers, ``(M,)``.

    Returns:
        0 (alike) to 1 (no overlap).

    Example:
        >>> kolmogorov_smirnov(np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6]))
        0.5

    Paper: Smirnov, Annals of Mathematical Statistics 19:279, 1948.
    """
    first, second = np.sort(first), np.sort(second)
    every = np.concatenate([first, second])
    share = np.searchsorted(first, every, "right") / len(first)
    other = np.searchsorted(second, every, "right") / len(second)
    return float(np.abs(share - other).max())


def bin_edges(values: Array, bins: int = 10) -> Array:
    """Inner edges of bins that hold equally many of the values; equal edges are one."""
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    return np.unique(np.quantile(values, inner, method="higher"))


def stability_index(first: Array, second: Array) -> Array:
    """Population stability index, ``sum_k (p_k - q_k) ln(p_k / q_k)``, in nats.

    Half a count is added to every bin, so that an empty one costs much and not infinitely much.

    Args:
        first: Counts by bin, ``(..., K)``.
        second: Counts by bin, ``(..., K)``.

    Returns:
        At least 0, ``(...)``. The usual 0.1 and 0.25 say nothing of chance: see `levels`.

    Example:
        >>> round(float(stability_index(np.array([50, 50]), np.array([90, 10]))), 2)
        0.85

    Source: Siddiqi, Credit Risk Scorecards, Wiley 2006; it is Jeffreys' divergence.
    """
    p = (first + 0.5) / (first + 0.5).sum(-1, keepdims=True)
    q = (second + 0.5) / (second + 0.5).sum(-1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(-1))


def chi_square(first: Array, second: Array) -> Array:
    """Pearson's statistic of a table of two rows, ``sum (observed - expected)² / expected``.

    Args:
        first: Counts by class, ``(..., K)``.
        second: Counts by class, ``(..., K)``.

    Returns:
        At least 0, ``(...)``; a class that neither has counts nothing.

    Example:
        >>> round(float(chi_square(np.array([10, 20]), np.array([20, 10]))), 4)
        6.6667

    Paper: Pearson, Philosophical Magazine 50:157, 1900.
    """
    n, m = first.sum(-1, keepdims=True), second.sum(-1, keepdims=True)
    both = first + second
    part = (np.sqrt(m / n) * first - np.sqrt(n / m) * second) ** 2 / np.maximum(both, 1e-12)
    return np.asarray(part.sum(-1))


def squared_distances(first: Array, second: Array) -> Array:
    """Squared Euclidean distances of all pairs of rows, ``(N, M)``."""
    norms = (first**2).sum(1)[:, None] + (second**2).sum(1)[None]
    return np.asarray(np.maximum(norms - 2 * first @ second.T, 0))


def median_bandwidth(values: Array) -> float:
    """The median distance of two different rows: the usual width of a Gaussian kernel.

    Paper: Gretton et al., Journal of Machine Learning Research 13:723, 2012, section 8.
    """
    rows = np.linspace(0, len(values) - 1, min(len(values), MOST_FOR_MEDIAN)).astype(int)
    distances = squared_distances(values[rows], values[rows])
    found = np.sqrt(np.median(distances[np.triu_indices(len(rows), 1)]))
    return float(found) or 1.0


def gaussian(first: Array, second: Array, bandwidth: float) -> Array:
    """Gaussian kernel of all pairs of rows, ``exp(-d² / (2 bandwidth²))``, ``(N, M)``."""
    return np.asarray(np.exp(squared_distances(first, second) / (-2 * bandwidth**2)))


def mean_discrepancy(first: Array, second: Array, bandwidth: float) -> float:
    """Squared maximum mean discrepancy of two samples, with a Gaussian kernel, biased.

    ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)``, pairs of a row with itself included: what
    these add is the same for every window of one size, and so in the level too.

    Args:
        first: Rows, ``(N, F)``.
        second: Rows, ``(M, F)``.
        bandwidth: Of the kernel; see `median_bandwidth`.

    Returns:
        At least 0, but for rounding.

    Example:
        >>> x = np.array([[0.0], [1.0]])
        >>> round(mean_discrepancy(x, x + 10, 1.0), 4)
        1.6065

    Paper: Gretton et al., Journal of Machine Learning Research 13:723, 2012, equation 5.
    """
    within = gaussian(first, first, bandwidth).mean() + gaussian(second, second, bandwidth).mean()
    return float(within - 2 * gaussian(first, second, bandwidth).mean())


def waves(width: int, bandwidth: float, count: int = 512) -> Array:
    """Directions of random Fourier features for a Gaussian kernel, ``(width, count)``.

    Always the same ones for one width: a level and its windows must be measured alike.
    """
    dice = np.random.default_rng(20071203)
    return np.asarray(dice.normal(size=(width, count)) / bandwidth, dtype=np.float32)


def waved(values: Array, directions: Array) -> Array:
    """Features whose inner products are nearly the Gaussian kernel, ``(N, 2 count)``.

    The squared distance of two samples' mean features is then nearly `mean_discrepancy`, in a time
    that grows with N and not with its square.

    Paper: Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NIPS 2007.
    """
    angles = values @ directions
    both = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(both / np.sqrt(directions.shape[1]))
