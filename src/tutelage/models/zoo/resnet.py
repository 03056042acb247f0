"""ResNets for small images.

Deep Residual Learning for Image Recognition, He, Zhang, Ren, Sun, 2015 (arXiv 1512.03385,
section 4.2). The wider "x4" family is that of the distillation literature: Contrastive
Representation Distillation, Tian, Krishnan, Isola, 2019 (arXiv 1910.10699).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.registry import register
from tutelage.models.zoo.parts import (
    GlobalPool,
    Network,
    blocks_of,
    conv_norm,
    initialise,
    one_of,
    whole,
)

Shortcut = Literal["a", "b"]


class _Subsample(nn.Module):
    """Option A: every second pixel, and channels of zeros before and behind; no parameters."""

    def __init__(self, more: int, stride: int):
        super().__init__()
        self.before, self.stride = more // 2, stride
        self.behind = more - self.before

    def forward(self, maps: Tensor) -> Tensor:
        fewer = maps[:, :, :: self.stride, :: self.stride]
        return F.pad(fewer, (0, 0, 0, 0, self.before, self.behind))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; ``relu2:in`` is its output before activation."""

    def __init__(self, channels: int, filters: int, stride: int, shortcut: Shortcut):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(channels, filters, 3, stride=stride)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_norm(filters, filters, 3)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != filters:
            if shortcut == "a":
                self.shortcut = _Subsample(filters - channels, stride)
            else:
                self.shortcut = nn.Sequential(*conv_norm(channels, filters, stride=stride))

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(maps)))
        out: Tensor = self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(maps))
        return out


@register("model", "resnet")
def resnet(
    *,
    classes: int,
    channels: int = 3,
    depth: int = 20,
    width: int = 16,
    stem: int | None = None,
    shortcut: Shortcut = "a",
) -> Network:
    """A CIFAR-style ResNet of ``depth = 6 n + 2`` layers: three stages of n blocks.

    Feature points: ``layer1`` ``(N, width, H, W)``, ``layer2`` ``(N, 2 width, H/2, W/2)``,
    ``layer3`` ``(N, 4 width, H/4, W/4)``, ``pool`` ``(N, 4 width)``. The value before the last
    activation of a stage is ``layer3.2.relu2:in`` (its last block). Modules are named as in the
    widely used CIFAR-10 weights of Idelbayev (github.com/akamaster/pytorch_resnet_cifar10),
    which load strictly with option A.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        depth: 8, 14, 20, 32, 44, 56, 110, ...
        width: Channels of the first stage; it doubles from stage to stage.
        stem: Channels of the first convolution; as the first stage where left out.
        shortcut: Where a stage begins: ``a`` takes every second pixel and adds channels of zeros
            (the paper's choice for CIFAR), ``b`` is a 1x1 convolution (that of the distillation
            literature).

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> net = resnet(classes=10, depth=20)
        >>> sum(p.numel() for p in net.parameters())
        269722
    """
    blocks = blocks_of("resnet", depth, 6, 2, 8)
    one_of("shortcut", shortcut, ("a", "b"))
    before = whole("width", width) if stem is None else whole("stem", stem)
    if shortcut == "a" and before > width:
        one_of("shortcut", shortcut, ("b",))  # zeros cannot take channels away
    conv1, bn1 = conv_norm(whole("channels", channels), before, 3)
    modules: dict[str, nn.Module] = {"conv1": conv1, "bn1": bn1, "relu": nn.ReLU()}
    for stage, filters in enumerate((width, 2 * width, 4 * width)):
        layer = nn.Sequential()
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layer.append(_Block(before, filters, stride, shortcut))
            before = filters
        modules[f"layer{stage + 1}"] = layer
    modules["pool"] = GlobalPool()
    modules["linear"] = nn.Linear(before, whole("classes", classes))
    return initialise(Network(modules, ("layer1", "layer2", "layer3", "pool")))


def _named(depth: int) -> None:
    def build(*, classes: int, channels: int = 3, shortcut: Shortcut = "a") -> Network:
        return resnet(classes=classes, channels=channels, depth=depth, shortcut=shortcut)

    build.__doc__ = f"ResNet-{depth} for small images, 16 channels at first: see `resnet`."
    register("model", f"resnet{depth}")(build)


def _named_x4(depth: int) -> None:
    def build(*, classes: int, channels: int = 3) -> Network:
        return resnet(
            classes=classes, channels=channels, depth=depth, width=64, stem=32, shortcut="b"
        )

    build.__doc__ = f"ResNet-{depth}, four times as wide (32, 64, 128, 256): see `resnet`."
    register("model", f"resnet{depth}x4")(build)


for _depth in (8, 14, 20, 32, 44, 56, 110):
    _named(_depth)
for _depth in (8, 32):
    _named_x4(_depth)
