"""Classes and groups in each split: how many, how uneven, and whether splits are alike."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.data.audit.pool import SPLITS, Pool
from tutelage.data.groups import Groups

ALPHA = 0.001
"""A shift of the mix is told where chance has less than this, divided by the shifts tried."""
SHIFTED = 0.1
"""Cramér's V from which on a shift is large enough for a warning."""


def chi_squared(counts: Tensor) -> tuple[float, float, float]:
    """Whether the rows of a table of counts are of one mix: Pearson's test of homogeneity.

    ``sum (n - e)² / e`` over the cells, with ``e = row sum x column sum / total``. Columns whose
    smallest expected count is below 5 are joined into one, since the test needs some in each cell.

    Args:
        counts: ``(R, C)``, at least two rows with examples.

    Returns:
        The statistic, the probability of one as large where the mixes are equal, and Cramér's V:
        0 for equal mixes, 1 for mixes that have nothing in common.

    Example:
        >>> [round(x, 3) for x in chi_squared(torch.tensor([[30, 70], [50, 50]]))]
        [8.333, 0.004, 0.204]
    """
    counts = _joined(counts.double())
    total = counts.sum()
    freedom = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    if freedom < 1:
        return 0.0, 1.0, 0.0
    expected = counts.sum(1, keepdim=True) * counts.sum(0) / total
    statistic = ((counts - expected) ** 2 / expected).sum()
    half = torch.tensor(freedom / 2, dtype=torch.float64)
    p = torch.special.gammaincc(half, statistic / 2)
    v = (statistic / (total * min(counts.shape[0] - 1, counts.shape[1] - 1))).sqrt()
    return float(statistic), float(p), float(v)


def _joined(counts: Tensor) -> Tensor:
    counts = counts[:, counts.sum(0) > 0]
    rows = counts.sum(1, keepdim=True)
    rare = (rows * counts.sum(0) / counts.sum().clamp_min(1)).amin(0) < 5
    if not bool(rare.any()):
        return counts
    rest = counts[:, rare].sum(1, keepdim=True)
    return torch.cat([counts[:, ~rare], rest], 1)


def balance(pool: Pool, classes: Sequence[str]) -> dict[str, Any]:
    """Counts of classes by split, and the shift of their mix against train.

    Returns:
        ``names``; ``counts``: by split, in the order of the names; ``unlabelled``: by split;
        ``largest_to_smallest`` of train, None where a class is absent; ``absent``: names by
        split; ``shifts``: for validation and test ``p`` and ``v`` against train.
    """
    return _table(pool, pool.targets, list(classes))


def group_balance(pool: Pool, groups: Groups, classes: Sequence[str]) -> dict[str, Any]:
    """The same for groups, and how closely group and class go together in train (``v``, ``p``)."""
    numbers = groups.of(pool.ids)
    found = _table(pool, numbers, list(groups.names))
    both = (pool.split == 0) & (numbers >= 0) & (pool.targets >= 0)
    cells = numbers[both] * len(classes) + pool.targets[both]
    counts = torch.bincount(cells, minlength=len(groups.names) * len(classes))
    counts = counts.view(len(groups.names), len(classes))
    counts = counts[counts.sum(1) > 0]
    statistic, p, v = chi_squared(counts) if len(counts) > 1 else (0.0, 1.0, 0.0)
    return {**found, "with_classes": {"statistic": statistic, "p": p, "v": v}}


def _table(pool: Pool, numbers: Tensor, names: list[str]) -> dict[str, Any]:
    counts = {}
    unlabelled = {}
    for number, split in enumerate(SPLITS):
        inside = numbers[pool.split == number]
        counts[split] = torch.bincount(inside[inside >= 0], minlength=len(names))
        unlabelled[split] = int((inside < 0).sum())
    train = counts["train"]
    known = {split: found for split, found in counts.items() if int(found.sum())}
    return {
        "names": names,
        "counts": {split: found.tolist() for split, found in counts.items()},
        "unlabelled": unlabelled,
        "largest_to_smallest": (
            float(train.max() / train.min()) if len(train) and int(train.min()) else None
        ),
        "absent": {
            split: [names[i] for i in (found == 0).nonzero().flatten().tolist()]
            for split, found in known.items()
        },
        "shifts": {
            split: dict(
                zip(
                    ("statistic", "p", "v"),
                    chi_squared(torch.stack([train, found])),
                    strict=True,
                )
            )
            for split, found in known.items()
            if split != "train" and "train" in known
        },
    }
