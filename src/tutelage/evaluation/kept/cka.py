"""How alike the features of two models are, whatever their widths and rotations."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.distributions import student_t_quantile
from tutelage.evaluation.intervals import Interval


def linear_cka(first: Tensor, second: Tensor) -> float | None:
    """Linear centred kernel alignment of two feature spaces on the same examples.

    ``‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)`` of centred features, Frobenius norms: 1 where one is a rotation and
    scaling of the other. It is inflated where examples are few beside the features' dimensions:
    compare with `unbiased_cka`.

    Args:
        first: Features ``(N, D)``.
        second: Features ``(N, E)``, of the same N examples.

    Returns:
        A number in [0, 1]; None where one model's features never change.

    Raises:
        DataError: Shapes do not fit, or features are NaN or infinite.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
        >>> round(linear_cka(features, 5 * features.flip(1)), 6)
        1.0

    Paper: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019,
    arXiv 1905.00414.
    """
    x, y = _pair(first, second, least=2)
    return _ratio(_cross(x, y), _cross(x, x), _cross(y, y))


def unbiased_cka(first: Tensor, second: Tensor) -> float | None:
    """Linear CKA with the unbiased estimate of HSIC: few examples do not inflate it.

    Every HSIC of the ratio is Song et al.'s estimate, the Gram matrices' diagonals set to 0::

        HSIC₁(K, L) = (tr KL + 1ᵀK1 1ᵀL1 / ((n-1)(n-2)) - 2 / (n-2) 1ᵀKL1) / (n (n-3))

    computed in feature space, ``O(N D E)``, so that no ``N × N`` matrix is made and minibatches
    (Nguyen et al.) are not needed.

    Args:
        first: Features ``(N, D)``, N at least 4.
        second: Features ``(N, E)``, of the same N examples.

    Returns:
        About 0 for features that have nothing in common (a little below is possible), 1 for equal
        ones; None where one model's features never change.

    Raises:
        DataError: As `linear_cka`.

    Example:
        >>> from tutelage.core.seeds import generator
        >>> dice = generator(0, "doctest")
        >>> x, y = (torch.randn(40, 200, generator=dice) for _ in range(2))
        >>> round(linear_cka(x, y), 1), abs(unbiased_cka(x, y)) < 0.1
        (0.8, True)

    Paper: Song et al., JMLR 2012 (HSIC₁); Nguyen, Raghu and Kornblith, "Do Wide and Deep Networks
    Learn the Same Things?", ICLR 2021, arXiv 2010.15327.
    """
    x, y = _pair(first, second, least=4)
    return _ratio(_hsic(x, y), _hsic(x, x), _hsic(y, y))


@dataclass(frozen=True)
class Alignments:
    """How alike one model's features are to those of two others, and the difference.

    Attributes:
        first: Unbiased CKA of the reference and the first model.
        second: Unbiased CKA of the reference and the second model.
        difference: first - second, with its interval.
    """

    first: float
    second: float
    difference: Interval


def compare_cka(
    reference: Tensor, first: Tensor, second: Tensor, *, parts: int = 20, level: float = 0.95
) -> Alignments | None:
    """Is the first model's feature space nearer to the reference's than the second's is?

    The interval is a delete-a-group jackknife over examples: the estimate is made again without
    each of ``parts`` groups. (A bootstrap would draw examples twice, and a doubled example looks
    like agreement.)

    Args:
        reference: Features ``(N, D)``.
        first: Features ``(N, E)`` of one model.
        second: Features ``(N, F)`` of another.
        parts: Groups that are left out in turn; examples should be in no order of classes, or
            stratified: group g is every ``parts``-th example from g on.
        level: Confidence.

    Returns:
        None where features never change, or there are fewer than two examples a group.
    """
    if len(reference) < max(8, 2 * parts):
        return None

    def both(rows: Tensor) -> tuple[float, float] | None:
        x = reference[rows]
        found = unbiased_cka(x, first[rows]), unbiased_cka(x, second[rows])
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    place = torch.arange(len(reference))
    whole = both(place)
    without = [both(place[place % parts != part]) for part in range(parts)]
    kept = [found[0] - found[1] for found in without if found is not None]
    if whole is None or len(kept) < parts:
        return None
    mean = math.fsum(kept) / parts
    error = math.sqrt((parts - 1) / parts * math.fsum((one - mean) ** 2 for one in kept))
    reach, value = student_t_quantile(level, parts - 1) * error, whole[0] - whole[1]
    method = f"jackknife over {parts} groups of examples"
    return Alignments(*whole, Interval(value, value - reach, value + reach, level, method))


def _cross(x: Tensor, y: Tensor) -> float:
    """``‖YᵀX‖²``, by the smaller of the two ways."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return (y.T @ x).square().sum().item()
    return ((x @ x.T) * (y @ y.T)).sum().item()


def _hsic(x: Tensor, y: Tensor) -> float:
    """HSIC₁ of linear kernels of centred features (centring changes rounding alone)."""
    n = len(x)
    own_x, own_y = x.square().sum(1), y.square().sum(1)
    rows_x, rows_y = x @ x.sum(0) - own_x, y @ y.sum(0) - own_y
    trace = _cross(x, y) - (own_x * own_y).sum().item()
    sums = rows_x.sum().item() * rows_y.sum().item() / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (rows_x * rows_y).sum().item()
    return (trace + sums - mixed) / (n * (n - 3))


def _ratio(common: float, own: float, other: float) -> float | None:
    return None if min(own, other) <= 0 else common / math.sqrt(own) / math.sqrt(other)


def _pair(first: Tensor, second: Tensor, least: int) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second) or len(first) < least:
        raise DataError(
            f"features of shapes {tuple(first.shape)} and {tuple(second.shape)} were given: CKA "
            f"needs (N, D) and (N, E) of the same N examples, at least {least}."
        )
    found = []
    for features in (first, second):
        values = features.detach().cpu().double()
        if not bool(values.isfinite().all()):
            raise DataError("some features are NaN or infinite: the model is broken.")
        values = values - values.mean(0)
        # One scale for all dimensions changes no ratio, and keeps squares of squares in range.
        found.append(values / values.abs().amax().clamp(min=1e-300))
    return found[0], found[1]
