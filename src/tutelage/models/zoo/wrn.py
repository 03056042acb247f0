"""Wide residual networks for small images.

Wide Residual Networks, Zagoruyko and Komodakis, 2016 (arXiv 1605.07146).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.registry import register
from tutelage.models.zoo.parts import (
    GlobalPool,
    Network,
    blocks_of,
    fraction,
    initialise,
    whole,
)


class _Block(nn.Module):
    """Normalise, activate, convolve, twice; a block that changes the width activates first."""

    def __init__(self, channels: int, filters: int, stride: int, dropout: float):
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(channels), nn.ReLU()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(filters), nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.dropout = dropout
        self.shortcut: nn.Module | None = None
        if channels != filters or stride != 1:
            self.shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        active = self.relu1(self.bn1(maps))
        inner = self.relu2(self.bn2(self.conv1(active)))
        if self.dropout > 0:
            inner = F.dropout(inner, self.dropout, self.training)
        past: Tensor = maps if self.shortcut is None else self.shortcut(active)
        out: Tensor = past + self.conv2(inner)
        return out


@register("model", "wrn")
def wrn(
    *,
    classes: int,
    channels: int = 3,
    depth: int = 16,
    width: int = 2,
    dropout: float = 0.0,
) -> Network:
    """WRN-``depth``-``width``: a pre-activation ResNet, ``width`` times as wide.

    Feature points: ``layer1`` ``(N, 16 width, H, W)``, ``layer2`` ``(N, 32 width, H/2, W/2)``,
    ``layer3`` ``(N, 64 width, H/4, W/4)``, all before activation, and ``pool``
    ``(N, 64 width)``.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        depth: ``6 n + 4``: 10, 16, 28, 40, ...
        width: How many times wider than a plain ResNet.
        dropout: Share of values dropped between a block's two convolutions.

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> net = wrn(classes=100, depth=40, width=2)
        >>> sum(p.numel() for p in net.parameters())
        2255156
    """
    blocks = blocks_of("wrn", depth, 6, 4, 10)
    rate, before = fraction("dropout", dropout), 16
    modules: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(whole("channels", channels), before, 3, 1, 1, bias=False)
    }
    for stage in range(3):
        filters = 16 * 2**stage * whole("width", width)
        layer = nn.Sequential()
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layer.append(_Block(before, filters, stride, rate))
            before = filters
        modules[f"layer{stage + 1}"] = layer
    modules |= {"bn1": nn.BatchNorm2d(before), "relu": nn.ReLU(), "pool": GlobalPool()}
    modules["linear"] = nn.Linear(before, whole("classes", classes))
    return initialise(Network(modules, ("layer1", "layer2", "layer3", "pool")))


def _named(depth: int, width: int) -> None:
    def build(*, classes: int, channels: int = 3, dropout: float = 0.0) -> Network:
        return wrn(classes=classes, channels=channels, depth=depth, width=width, dropout=dropout)

    build.__doc__ = f"WRN-{depth}-{width}, a wide residual network: see `wrn`."
    register("model", f"wrn_{depth}_{width}")(build)


for _depth, _width in ((16, 1), (16, 2), (28, 10), (40, 1), (40, 2)):
    _named(_depth, _width)
