"""Batch normalisation put into the weights of the layer before it, as exported files have it."""

import torch
from torch import nn


@torch.no_grad()
def fold(layer: nn.Conv2d | nn.Linear, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Have ``layer`` compute what the two compute in eval mode.

    Jacob et al., 2017, arXiv:1712.05877, section 3.2. Computed in float64.

    Args:
        layer: Changed; it has a bias afterwards.
        norm: With statistics; left as it is.

    Example:
        >>> layer, norm = nn.Linear(2, 3), nn.BatchNorm1d(3).eval()
        >>> x = torch.ones(4, 2)
        >>> before = norm(layer(x))
        >>> fold(layer, norm)
        >>> torch.allclose(layer(x), before, atol=1e-6)
        True
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, scale = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    weight = layer.weight
    shape = [-1] + [1] * (weight.ndim - 1)
    bias = -mean * scale
    if layer.bias is not None:
        bias = bias + layer.bias.double() * scale
    if norm.affine:
        bias = bias + norm.bias.double()
    weight.copy_((weight.double() * scale.view(shape)).to(weight.dtype))
    layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=weight.requires_grad)
