"""How well one number tells two sets apart: AUROC, rates at a threshold, and how sure they are.

"Positive" examples should have the higher scores: the known ones where strangers are looked for,
the members where membership is guessed.
"""

import math

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.intervals import Interval, wilson


def auroc(positives: Tensor, negatives: Tensor) -> float:
    """Area under the ROC curve: ``P(s₊ > s₋) + P(s₊ = s₋) / 2``; ties count half.

    Args:
        positives: Scores ``(P,)``.
        negatives: Scores ``(N,)``.

    Example:
        >>> auroc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
        0.875

    Paper: Hanley and McNeil, Radiology 1982.
    """
    return float(_placements(*_checked(positives, negatives))[0].mean())


def false_positive_rate(positives: Tensor, negatives: Tensor, at: float = 0.95) -> float:
    """Share of the negatives let through by the highest threshold that keeps ``at`` positives.

    "FPR at 95 % TPR", or FPR95.

    Args:
        positives: Scores ``(P,)``.
        negatives: Scores ``(N,)``.
        at: Share of the positives that must reach the threshold.

    Example:
        >>> false_positive_rate(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 0.0]), 0.95)
        0.5
    """
    kept, others = _checked(positives, negatives)
    place = max(math.ceil(_share(at) * len(kept) - 1e-9), 1)
    threshold = kept.sort(descending=True).values[place - 1]
    return float((others >= threshold).double().mean())


def true_positives(positives: Tensor, negatives: Tensor, at: float = 0.01) -> int:
    """How many positives pass the lowest threshold that at most ``at`` of the negatives pass.

    Divided by the number of positives it is "TPR at 1 % FPR": what an attacker who may hardly
    ever be wrong finds out.

    Args:
        positives: Scores ``(P,)``.
        negatives: Scores ``(N,)``.
        at: Share of the negatives that may pass.

    Example:
        >>> true_positives(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 0.0]), 0.4)
        1
    """
    kept, others = _checked(positives, negatives)
    allowed = math.floor(_share(at) * len(others) + 1e-9)
    if allowed >= len(others):
        return len(kept)
    barrier = others.sort(descending=True).values[allowed]
    # A score equal to the first negative that may not pass would let that one through, too.
    return int((kept > barrier).sum())


def auroc_interval(positives: Tensor, negatives: Tensor, *, level: float = 0.95) -> Interval:
    """AUROC with DeLong's interval: which examples were drawn, not which model was trained.

    ``Var = S₊ / P + S₋ / N`` of the placement values. Where the two sets are wholly apart the
    variance is 0 and says nothing: then Wilson's interval of min(P, N) separate pairs stands.

    Args:
        positives: Scores ``(P,)``, at least two.
        negatives: Scores ``(N,)``, at least two.
        level: Confidence.

    Example:
        >>> found = auroc_interval(torch.arange(50.0), torch.arange(50.0) - 5)
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (0.595, 0.484, 0.706)

    Paper: DeLong, DeLong and Clarke-Pearson, Biometrics 1988.
    """
    up, down = _placements(*_checked(positives, negatives))
    area = float(up.mean())
    variance = _variance(up) + _variance(down)
    if variance <= 1e-18:
        pairs = min(len(up), len(down))
        if area in (0.0, 1.0):
            edge = wilson(round(area * pairs), pairs, level=level)
            return Interval(area, edge.low, edge.high, level, "Wilson score of separate pairs")
        return Interval(area, area, area, level, "DeLong")  # all scores equal: 1/2, exactly
    reach = normal_quantile(level) * math.sqrt(variance)
    return Interval(area, max(area - reach, 0.0), min(area + reach, 1.0), level, "DeLong")


def auroc_difference(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], *, level: float = 0.95
) -> Interval:
    """AUROC of one score minus that of another on the same examples, with DeLong's interval.

    Args:
        first: Scores of the positives ``(P,)`` and of the negatives ``(N,)``.
        second: The other score of the same examples, in the same order.
        level: Confidence.

    Raises:
        DataError: The two were not computed on the same examples.

    Example:
        >>> good = torch.tensor([3.0, 4.0, 5.0]), torch.tensor([0.0, 1.0, 2.0])
        >>> auroc_difference(good, good).mean
        0.0

    Paper: DeLong, DeLong and Clarke-Pearson, Biometrics 1988.
    """
    if [len(each) for each in first] != [len(each) for each in second]:
        raise DataError(
            f"scores of {[len(each) for each in first]} and {[len(each) for each in second]} "
            "examples cannot be paired: both must be of the same examples."
        )
    (up, down), (others_up, others_down) = (
        _placements(*_checked(*each)) for each in (first, second)
    )
    mean = float(up.mean() - others_up.mean())
    up, down = up - others_up, down - others_down
    reach = normal_quantile(level) * math.sqrt(_variance(up) + _variance(down))
    return Interval(mean, mean - reach, mean + reach, level, "DeLong, paired")


def _placements(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Of each positive the share of negatives below it, of each negative of positives above."""
    return _below(positives, negatives), 1 - _below(negatives, positives)


def _below(scores: Tensor, others: Tensor) -> Tensor:
    ordered = others.sort().values
    under = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    return (under + up_to).double() / (2 * len(others))


def _variance(values: Tensor) -> float:
    """Of their mean."""
    if len(values) < 2:
        raise DataError("an interval of an AUROC needs at least 2 examples on both sides.")
    return float(values.var() / len(values))


def _checked(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    for scores in (positives, negatives):
        if scores.ndim != 1 or not len(scores):
            raise DataError(
                f"scores of shape {tuple(scores.shape)} were given: one for each of at least one "
                "example, (N,), is needed on both sides."
            )
        if not bool(scores.isfinite().all()):
            raise DataError("some scores are NaN or infinite: they cannot be put in order.")
    return positives.detach().cpu().double(), negatives.detach().cpu().double()


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise DataError(f"the rate is {value}: give a share in [0, 1], such as 0.95.")
    return value
