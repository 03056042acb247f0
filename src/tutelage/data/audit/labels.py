"""Labels that are likely wrong: how many, and which to look at first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.seeds import generator
from tutelage.data.audit.descriptors import directions_of
from tutelage.data.audit.features import features
from tutelage.data.audit.folds import out_of_fold, votes
from tutelage.data.audit.neighbours import nearest
from tutelage.data.audit.noise import Noise, noise_share
from tutelage.data.audit.pool import Pool

NEIGHBOURS = 20
MOST = 100_000
"""Examples that are looked at: a seeded choice of more."""
UNBELIEVED = 0.01
"""Belief in a label below which it is doubted, even if no other class is believed much."""
FEWEST = 20
"""Labelled examples of a class below which nothing is said of its labels."""


@dataclass(frozen=True)
class Labels:
    """What the check of labels found.

    Attributes:
        places: Positions of the examples that were looked at ``(M,)``: train and validation.
        suspects: Positions of those whose label is doubted, the least believed first.
        belief: The probability given to each suspect's own label.
        instead: The class that is thought of instead, for each suspect.
        accuracy: Share of the labels that the classifier names out of fold.
        noise: Estimated share of labels that are as good as drawn at random.
        second: What cleanlab says, by name; None where it is not installed.
        why: Why nothing was looked at, in a clause; None where it was.
    """

    places: Tensor
    suspects: Tensor
    belief: Tensor
    instead: Tensor
    accuracy: float
    noise: Noise | None
    second: dict[str, Any] | None
    why: str | None = None


def check(
    pool: Pool,
    rows: Tensor,
    classes: Sequence[str],
    seed: int,
    given: Tensor | None = None,
) -> Labels:
    """Doubt the labels of train and validation; those of test are let be.

    Two voices: a ridge classifier on simple features, out of fold, its scores made probabilities;
    and the votes of the nearest neighbours in these features. Their geometric mean is the belief
    in each label. Doubted are those that confident learning counts as another class, and those
    that are hardly believed at all: confident learning passes over a sneaker's label on what may
    be a shirt or a coat.

    Args:
        pool: The examples.
        rows: Their short rows (see `descriptors`).
        classes: Names.
        seed: Of folds and features.
        given: Features of a model ``(N, D)`` to be used instead of simple ones.
    """
    places = ((pool.split < 2) & (pool.targets >= 0)).nonzero().flatten()
    sizes = torch.bincount(pool.targets[places], minlength=len(classes))
    places = places[(sizes >= FEWEST)[pool.targets[places]]]
    used, targets = torch.unique(pool.targets[places], return_inverse=True)
    if len(used) < 2:
        return _nothing(f"fewer than two classes have {FEWEST} labelled examples")
    if len(places) > MOST:
        chosen = torch.randperm(len(places), generator=generator(seed, "audit", "labels"))[:MOST]
        chosen = chosen.sort().values
        places, targets = places[chosen], targets[chosen]
    found = features(pool, rows, places, seed) if given is None else _standard(given[places])
    scores = out_of_fold(found, targets, len(used), pool.ids[places], seed)
    noise = noise_share(scores, targets)
    own = torch.softmax(scores.double() * noise.sharpness, 1)
    distances, near = nearest(directions_of(found, seed), min(NEIGHBOURS, len(places) - 1))
    both = (own * votes(near, distances, targets, len(used)).double()).sqrt()
    belief = both / both.sum(1, keepdim=True)
    mine = belief.gather(1, targets[:, None])[:, 0]
    unbelieved = (mine < UNBELIEVED).nonzero().flatten()
    doubted = torch.unique(torch.cat([confident_disagreement(belief, targets), unbelieved]))
    order = mine[doubted].argsort(stable=True)
    suspects = doubted[order]
    others = belief.scatter(1, targets[:, None], -1.0)
    return Labels(
        places,
        places[suspects],
        mine[suspects],
        used[others[suspects].argmax(1)],
        float((scores.argmax(1) == targets).double().mean()),
        noise,
        _second_opinion(belief, targets, suspects),
    )


def confident_disagreement(belief: Tensor, targets: Tensor) -> Tensor:
    """Rows whose label confident learning counts as another.

    Class j's threshold is the mean belief in j over the examples labelled j. An example counts
    as the likeliest class among those whose threshold its belief reaches; where that is not its
    label, it is doubted. Northcutt, Jiang, Chuang: Confident learning, arXiv 1911.00068, equation
    1 (the off-diagonal of the confident joint, without the later pruning).

    Args:
        belief: Probabilities out of fold ``(N, C)``.
        targets: Labels ``(N,)``, each class at least once.

    Returns:
        Rows, ascending.

    Example:
        >>> belief = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.1, 0.9]])
        >>> confident_disagreement(belief, torch.tensor([0, 0, 1, 1, 0])).tolist()
        [4]
    """
    own = belief.gather(1, targets[:, None])[:, 0]
    sums = torch.zeros(belief.shape[1], dtype=belief.dtype).index_add_(0, targets, own)
    thresholds = sums / torch.bincount(targets, minlength=belief.shape[1])
    reached = belief >= thresholds
    likeliest = torch.where(reached, belief, -1.0).argmax(1)
    return (reached.any(1) & (likeliest != targets)).nonzero().flatten()


def _second_opinion(belief: Tensor, targets: Tensor, suspects: Tensor) -> dict[str, Any] | None:
    """What `cleanlab.filter.find_label_issues` makes of the same beliefs."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    flagged = find_label_issues(
        targets.numpy(),
        belief.numpy(),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    theirs = set(flagged.tolist())
    return {
        "flagged": len(theirs),
        "agreed": sum(row in theirs for row in suspects.tolist()),
        "agrees": [row in theirs for row in suspects.tolist()],
    }


def _standard(given: Tensor) -> Tensor:
    rows = given.flatten(1).float()
    rows = (rows - rows.mean(0)) / rows.std(0).clamp_min(1e-6)
    return rows / math.sqrt(rows.shape[1])


def _nothing(why: str) -> Labels:
    none = torch.zeros(0).long()
    return Labels(none, none, torch.zeros(0), none, 0.0, None, None, why)
