"""A linear layer, or a 1x1 convolution, as two thinner ones.

Denton, Zaremba, Bruna, LeCun, Fergus: Exploiting Linear Structure Within Convolutional Networks
for Efficient Evaluation, 2014, arXiv:1404.0736.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError, RecipeError


@dataclass(frozen=True)
class Factors:
    """A layer in two, and how far their product is from it.

    Attributes:
        layers: The two layers one after another; takes what the layer took.
        rank: Numbers that pass between them.
        error: Frobenius norm of the layer's weight less the product of the two weights.
        relative_error: That, as a share of the weight's own norm.
        parameters_before: Of the layer.
        parameters_after: Of the two.
    """

    layers: nn.Sequential
    rank: int
    error: float
    relative_error: float
    parameters_before: int
    parameters_after: int


def factorise(
    layer: nn.Linear | nn.Conv2d, *, rank: int | None = None, energy: float | None = None
) -> Factors:
    r"""The best two layers of a given rank, by the singular value decomposition.

    .. math:: W \approx (U_r \Sigma_r^{1/2}) (\Sigma_r^{1/2} V_r^T)

    By Eckart and Young no product of that rank is nearer: the error is the root of the sum of
    squares of the singular values left out. It is measured on the two weights as they are kept.

    Args:
        layer: A linear layer or an ungrouped convolution with a 1x1 kernel; left as it is.
        rank: Numbers between the two layers, from 1 to the smaller side of the weight.
        energy: Instead of a rank: the smallest one that keeps this share of the sum of squares
            of the weight, above 0 and at most 1.

    Returns:
        The two layers, on the layer's device and in its precision; the second has the bias.

    Raises:
        ModelError: The layer is of another kind, or its weight is not finite.
        RecipeError: Neither or both of rank and energy are given, or one is out of range.

    Example:
        >>> found = factorise(nn.Linear(6, 4), rank=4)
        >>> found.parameters_before, found.parameters_after, found.relative_error < 1e-6
        (28, 44, True)
    """
    if not factorisable(layer):
        raise ModelError(
            f"a {type(layer).__name__} cannot be factorised: give an nn.Linear, or an nn.Conv2d "
            "with kernel 1, one group and zero padding."
        )
    weight = layer.weight.detach().flatten(1).double().cpu()  # (out, in)
    if not bool(weight.isfinite().all()):
        raise ModelError("the layer's weight has NaN or infinite numbers: it has no factors.")
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    kept = _rank(values, rank, energy)
    root = values[:kept].sqrt()
    layers = _layers(layer, left[:, :kept] * root, root[:, None] * right[:kept])
    first, second = (_matrix(each) for each in layers)
    error = float((weight - second @ first).norm())
    return Factors(
        layers,
        kept,
        error,
        error / max(float(weight.norm()), 1e-300),
        sum(p.numel() for p in layer.parameters()),
        sum(p.numel() for p in layers.parameters()),
    )


def factorisable(layer: nn.Module) -> bool:
    """Whether a layer is one matrix: exactly ``nn.Linear``, or an ungrouped 1x1 ``nn.Conv2d``."""
    if type(layer) is nn.Conv2d:
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return plain and layer.kernel_size == (1, 1)
    return type(layer) is nn.Linear


def _rank(values: Tensor, rank: int | None, energy: float | None) -> int:
    if (rank is None) == (energy is None):
        raise RecipeError("give a rank or an energy to factorise by, one of the two.")
    full = len(values)
    if rank is not None:
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= full:
            raise RecipeError(f"rank must be a whole number from 1 to {full}, got {rank!r}.")
        return rank
    share = checked_energy(energy)
    squares = values.square().cumsum(0)
    enough = squares >= share * squares[-1]
    return int(enough.double().argmax()) + 1


def checked_energy(energy: object) -> float:
    """``energy``, a share above 0 and at most 1."""
    number = not isinstance(energy, bool) and isinstance(energy, int | float)
    if not number or not 0 < energy <= 1:  # type: ignore[operator]
        raise RecipeError(f"energy must be a number above 0 and at most 1, got {energy!r}.")
    return float(energy)  # type: ignore[arg-type]


def _layers(layer: nn.Linear | nn.Conv2d, second: Tensor, first: Tensor) -> nn.Sequential:
    rank, bias = len(first), layer.bias is not None
    like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    one: nn.Module
    two: nn.Module
    if isinstance(layer, nn.Conv2d):
        moved: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
        one = nn.Conv2d(layer.in_channels, rank, 1, bias=False, **moved, **like)
        two = nn.Conv2d(rank, layer.out_channels, 1, bias=bias, **like)
    else:
        one = nn.Linear(layer.in_features, rank, bias=False, **like)
        two = nn.Linear(rank, layer.out_features, bias=bias, **like)
    with torch.no_grad():
        for made, matrix in ((one, first), (two, second)):
            weight = made.weight
            assert isinstance(weight, Tensor)
            weight.copy_(matrix.view(weight.shape))
        if layer.bias is not None:
            assert isinstance(two.bias, Tensor)
            two.bias.copy_(layer.bias)
    return nn.Sequential(one, two).train(layer.training)


def _matrix(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().flatten(1).double().cpu()
