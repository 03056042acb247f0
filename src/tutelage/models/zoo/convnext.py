"""ConvNeXt.

A ConvNet for the 2020s, Liu et al., 2022 (arXiv 2201.03545).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.zoo.parts import GlobalPool, Network, whole, wholes


class _MapNorm(nn.LayerNorm):
    """Layer normalisation of the channels at each place of ``(N, C, H, W)``."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """7x7 channel by channel, then a two-layer network at each place, scaled and added."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.mlp(self.norm(self.conv(maps).permute(0, 2, 3, 1)))
        out: Tensor = maps + (self.scale * inner).permute(0, 3, 1, 2)
        return out


@register("model", "convnext")
def convnext(
    *,
    classes: int,
    channels: int = 3,
    widths: Sequence[int] = (40, 80, 160, 320),
    depths: Sequence[int] = (2, 2, 6, 2),
    patch: int = 2,
) -> Network:
    """ConvNeXt, by default a small one for small images; without stochastic depth.

    Feature points: ``layer1`` to ``layer{stages}``, stage s of shape
    ``(N, widths[s-1], H / (patch 2**(s-1)), ...)``, and ``pool`` ``(N, widths[-1])``, which is
    normalised once more before ``linear``.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        widths: Channels of each stage.
        depths: Blocks of each stage.
        patch: Height and width of the patches of the stem; 4 in the paper.

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``, for images of at least
        ``patch 2**(stages - 1)`` pixels.

    Raises:
        ModelError: An option is out of its range, or lists differ in length.

    Example:
        >>> net = convnext(classes=10, widths=(8, 16), depths=(1, 1))
        >>> net(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """
    sizes, counts = wholes("widths", widths), wholes("depths", depths)
    if len(sizes) != len(counts):
        raise ModelError(
            f"convnext: widths names {len(sizes)} stages and depths {len(counts)}: give as many."
        )
    stem = nn.Conv2d(whole("channels", channels), sizes[0], whole("patch", patch), patch)
    modules: dict[str, nn.Module] = {"stem": nn.Sequential(stem, _MapNorm(sizes[0]))}
    before = sizes[0]
    for number, (width, count) in enumerate(zip(sizes, counts, strict=True), start=1):
        layer = nn.Sequential()
        if number > 1:
            layer.extend([_MapNorm(before), nn.Conv2d(before, width, 2, 2)])
        layer.extend(_Block(width) for _ in range(count))
        modules[f"layer{number}"], before = layer, width
    modules |= {"pool": GlobalPool(), "norm": nn.LayerNorm(before, eps=1e-6)}
    modules["linear"] = nn.Linear(before, whole("classes", classes))
    points = [f"layer{number}" for number in range(1, len(sizes) + 1)]
    network = Network(modules, [*points, "pool"])
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
