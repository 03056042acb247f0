"""What a plain classifier says of examples that it was not trained on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.seeds import derive, uniform

FOLDS = 5
_RIDGES = (4e-5, 4e-4, 4e-3)  # times the number of examples
_CHUNK = 4096


def out_of_fold(features: Tensor, targets: Tensor, classes: int, ids: Tensor, seed: int) -> Tensor:
    """Scores of a ridge classifier, each example by the one that was fitted without its fold.

    ``W = (Z'Z + λ n)⁻¹ Z' (Y - y)`` on the four other folds, Y one-hot and y its mean: the
    products of each fold are made once and taken away in turn, so that all five cost little more
    than one. Of three λ the one with the least squared error out of fold is taken.

    Args:
        features: ``(N, D)``, centred.
        targets: Classes ``(N,)``, none negative.
        classes: How many.
        ids: Example numbers ``(N,)``: who is in which fold is a function of (seed, id).
        seed: Of the folds.

    Returns:
        ``(N, C)``, about 1 for the class that it thinks of, 0 for others.
    """
    order = uniform(derive(seed, "audit", "folds"), ids)[:, 0].argsort(stable=True)
    order = order[targets[order].argsort(stable=True)]  # each class is dealt out evenly
    fold = torch.empty(len(ids), dtype=torch.long)
    fold[order] = torch.arange(len(ids)) % FOLDS
    wanted = F.one_hot(targets, classes).float()
    usual = wanted.mean(0)
    parts = [(fold == number).nonzero().flatten() for number in range(FOLDS)]
    gram = [_product(features, features, part) for part in parts]
    moment = [_product(features, wanted - usual, part) for part in parts]
    tried = [usual + _scores(features, parts, gram, moment, ridge) for ridge in _RIDGES]
    return min(tried, key=lambda scores: float((scores - wanted).square().mean()))


def _scores(
    features: Tensor, parts: list[Tensor], gram: list[Tensor], moment: list[Tensor], ridge: float
) -> Tensor:
    whole, aim = torch.stack(gram).sum(0), torch.stack(moment).sum(0)
    scores = torch.empty(len(features), aim.shape[1])
    for part, own, theirs in zip(parts, gram, moment, strict=True):
        system = (whole - own).double()
        system.diagonal().add_(ridge * len(features))
        factor = torch.linalg.cholesky(system)
        weights = torch.cholesky_solve((aim - theirs).double(), factor).float()
        scores[part] = features[part] @ weights
    return scores


def votes(places: Tensor, distances: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Shares of the classes among neighbours ``(N, C)``, half an example shared out to all.

    Args:
        places: Of the neighbours ``(N, K)``.
        distances: To them ``(N, K)``; one at distance 0, a copy, has no vote.
        targets: Classes ``(N,)``.
        classes: How many.
    """
    counted = (distances > 0).float()
    found = torch.zeros(len(places), classes)
    found.scatter_add_(1, targets[places], counted)
    return (found + 0.5 / classes) / (counted.sum(1, keepdim=True) + 0.5)


def _product(a: Tensor, b: Tensor, rows: Tensor) -> Tensor:
    total = torch.zeros(a.shape[1], b.shape[1])
    for part in torch.split(rows, _CHUNK):
        total += a[part].T @ b[part]
    return total
