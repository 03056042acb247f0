"""Can a model's confidence be trusted? What `metrics` does not have, and what chance would show."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.distributions import checked_level
from tutelage.evaluation.intervals import Interval
from tutelage.evaluation.metrics import bin_places, checked, reliability

_AT_ONCE = 2_000_000  # random numbers held in memory


def sureness(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How sure each answer is, and whether it is right: each ``(N,)`` of float64."""
    logits, targets = checked(logits, targets)
    confidence, answer = logits.log_softmax(-1).max(-1)
    return confidence.exp(), (answer == targets).double()


def max_calibration_error(
    logits: Tensor, targets: Tensor, *, bins: int = 15, equal_mass: bool = False
) -> float:
    """The largest distance of confidence and accuracy in any bin that holds examples.

    A bin of one example is off by chance: read it beside the counts of `reliability`.

    Returns:
        A difference of shares, in [0, 1].

    Paper: Naeini et al., AAAI 2015; Guo et al., arXiv 1706.04599.
    """
    found = reliability(logits, targets, bins=bins, equal_mass=equal_mass)
    return (found.confidence - found.accuracy).abs()[found.count > 0].amax().item()


def classwise_ece(logits: Tensor, targets: Tensor, *, bins: int = 15) -> float:
    """Calibration error of the probability of every class, answered or not, mean over classes.

    ``1 / C sum_c sum_b |B_bc| / N · |share of class c in B_bc - mean p_c in B_bc|``, bins of equal
    width of ``p_c``.

    Returns:
        A difference of shares; small with many classes, most of whose probabilities are near 0.

    Example:
        >>> round(classwise_ece(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])), 6)
        0.25

    Paper: Kull et al., "Beyond temperature scaling", NeurIPS 2019, arXiv 1910.12656.
    """
    p, truth, cells, size = _cells(logits, targets, bins)
    gaps = torch.bincount(cells, (truth - p).flatten(), minlength=size).abs()
    return (gaps.sum() / len(p) / p.shape[1]).item()


def debiased_rms(logits: Tensor, targets: Tensor, *, bins: int = 15) -> float:
    """Root mean square calibration error, without what chance adds to it on few examples.

    ``sqrt(max(0, sum_b |B_b| / N · ((acc - conf)² - acc (1 - acc) / (|B_b| - 1))))`` over bins of
    equal mass: the second term is what the square is expected to be too large by. Bins of one
    example say nothing, and are left out.

    Returns:
        A difference of shares, in [0, 1]; at least the true `ece` on ever more examples.

    Paper: Kumar, Liang, Ma, "Verified Uncertainty Calibration", NeurIPS 2019, arXiv 1909.10155.
    """
    found = reliability(logits, targets, bins=bins, equal_mass=True)
    several = found.count > 1
    accuracy, count = found.accuracy[several], found.count[several]
    square = (accuracy - found.confidence[several]).square()
    square = square - accuracy * (1 - accuracy) / (count - 1)
    return ((square * count).sum() / found.count.sum()).clamp(min=0).sqrt().item()


@dataclass(frozen=True)
class BrierParts:
    """What a Brier score is made of: ``reliability - resolution + uncertainty + remainder``.

    Attributes:
        reliability: What dishonest probabilities cost; 0 is best.
        resolution: What telling examples apart gains; the more the better.
        uncertainty: Of the data alone: what always saying the classes' shares would score.
        remainder: What the bins hide: differences of probabilities within one bin.
    """

    reliability: float
    resolution: float
    uncertainty: float
    remainder: float


def brier_parts(logits: Tensor, targets: Tensor, *, bins: int = 15) -> BrierParts:
    """Murphy's decomposition of `brier`, of every class's probability by itself, added up.

    In bins b of each class's probability p, with o = 1 for its examples::

        reliability = sum |B| / N (mean_B p - mean_B o)²
        resolution = sum |B| / N (mean_B o - ō)²
        uncertainty = ō (1 - ō)
        remainder = mean((p - mean_B p)² - 2 (p - mean_B p) (o - mean_B o))

    Example:
        >>> parts = brier_parts(torch.zeros(2, 2), torch.tensor([0, 1]))
        >>> parts.reliability, parts.resolution, parts.uncertainty, parts.remainder
        (0.0, 0.0, 0.5, 0.0)

    Paper: Murphy, Journal of Applied Meteorology 1973; the remainder: Stephenson, Coelho, Jolliffe,
    Weather and Forecasting 2008.
    """
    p, truth, cells, size = _cells(logits, targets, bins)
    total, shares = len(p), truth.mean(0)
    count = torch.bincount(cells, minlength=size).double()
    filled = count.clamp(min=1)
    mean_p = torch.bincount(cells, p.flatten(), minlength=size) / filled
    mean_o = torch.bincount(cells, truth.flatten(), minlength=size) / filled
    overall = shares.repeat_interleave(bins)
    off_p, off_o = p.flatten() - mean_p[cells], truth.flatten() - mean_o[cells]
    return BrierParts(
        ((mean_p - mean_o).square() * count).sum().item() / total,
        ((mean_o - overall).square() * count).sum().item() / total,
        (shares * (1 - shares)).sum().item(),
        (off_p.square() - 2 * off_p * off_o).sum().item() / total,
    )


@dataclass(frozen=True)
class Chance:
    """A calibration error beside what an honest model would show on as many examples.

    Attributes:
        error: The `ece` found.
        expected: Mean of that of honest models with the same confidences: chance alone.
        p: Probability that an honest model shows an error at least as large.
    """

    error: float
    expected: float
    p: float


def beyond_chance(
    logits: Tensor,
    targets: Tensor,
    *,
    seed: int,
    bins: int = 15,
    equal_mass: bool = False,
    draws: int = 1000,
) -> Chance:
    """Test whether a model is mis-calibrated, or its `ece` only what few examples give.

    Each draw lets every answer be right with just the probability that the model gave it, and
    measures the error of that: what an honest model would show (consistency resampling).

    Args:
        logits: ``(N, C)``.
        targets: True class numbers ``(N,)``.
        seed: Of the draws.
        bins: Of the error.
        equal_mass: Of the bins.
        draws: How many; p is at least ``1 / (draws + 1)``.

    Paper: Bröcker and Smith, Weather and Forecasting 2007; Vaicenavicius et al., AISTATS 2019,
    arXiv 1902.06977.
    """
    confidence, hits = sureness(logits, targets)
    member = _members(confidence, bins, equal_mass)
    total = len(confidence)
    error = ((confidence - hits) @ member).abs().sum().item() / total
    dice, found = generator(seed, "honest answers"), []
    for many in _portions(draws, total):
        right = torch.rand(many, total, generator=dice) < confidence
        found.append(((confidence - right.double()) @ member).abs().sum(-1) / total)
    drawn = torch.cat(found)
    larger = int((drawn >= error - 1e-12).sum())
    return Chance(error, drawn.mean().item(), (1 + larger) / (1 + draws))


def ece_difference(
    first: Tensor,
    second: Tensor,
    targets: Tensor,
    *,
    seed: int,
    bins: int = 15,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """``ece(first) - ece(second)`` on the same examples, with a paired bootstrap interval.

    Drawing anew adds chance to both errors, more to the smaller: the interval leans towards 0.

    Args:
        first: Logits ``(N, C)``.
        second: Logits ``(N, C)`` of the same examples, of another model or at another temperature.
        targets: True class numbers ``(N,)``.
        seed: Of the draws.
        bins: Of equal width.
        draws: How many times the examples are drawn anew.
        level: Confidence.
    """
    outside = (1 - checked_level(level)) / 2
    if len(first) != len(second):
        raise DataError(f"{len(first)} and {len(second)} answers were given: pairs are needed.")
    gaps = []
    for logits in (first, second):
        confidence, hits = sureness(logits, targets)
        gaps.append(_members(confidence, bins, False) * (confidence - hits)[:, None])
    total, dice, found = len(targets), generator(seed, "calibration errors"), []
    both = torch.cat(gaps, 1)
    for many in _portions(draws, total):
        chosen = torch.randint(total, (many, total), generator=dice)
        chosen += total * torch.arange(many)[:, None]
        times = torch.bincount(chosen.flatten(), minlength=many * total).view(many, total)
        sums = (times.double() @ both).abs()
        found.append((sums[:, :bins].sum(-1) - sums[:, bins:].sum(-1)) / total)
    ends = torch.tensor([outside, 1 - outside], dtype=torch.float64)
    low, high = torch.cat(found).quantile(ends).tolist()
    whole = both.sum(0).abs() / total
    value = (whole[:bins].sum() - whole[bins:].sum()).item()
    return Interval(
        value, min(low, value), max(high, value), level, "paired bootstrap over examples"
    )


def _members(confidence: Tensor, bins: int, equal_mass: bool) -> Tensor:
    """Which bin each example is in, ``(N, B)`` of 0 and 1."""
    place = bin_places(confidence, bins, equal_mass=equal_mass)
    return torch.nn.functional.one_hot(place, bins).double()


def _cells(logits: Tensor, targets: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Probabilities and truth ``(N, C)``, and the cell (class, bin) of each, flat; their number."""
    logits, targets = checked(logits, targets)
    p, classes = logits.softmax(-1), logits.shape[1]
    truth = torch.nn.functional.one_hot(targets, classes).double()
    place = bin_places(p.flatten(), bins)
    return p, truth, place + bins * torch.arange(classes).repeat(len(p)), classes * bins


def _portions(draws: int, total: int) -> Iterator[int]:
    """How many draws to make at once, until all are made."""
    at_once = max(1, _AT_ONCE // total)
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)
