"""ShuffleNetV2.

ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, Ma et al., 2018
(arXiv 1807.11164). The form for small images is that of the distillation literature
(arXiv 1910.10699).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.core.registry import register
from tutelage.models.zoo.parts import GlobalPool, Network, conv_norm, initialise, one_of, whole

# The paper's table 5: channels of the three stages and of the last convolution.
_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
_BLOCKS = (4, 8, 4)


class _Block(nn.Module):
    """Half the channels pass, half are convolved, then both are shuffled.

    A block that halves the size convolves all channels on both ways.
    """

    def __init__(self, channels: int, filters: int, *, halves: bool):
        super().__init__()
        half, stride = filters // 2, 2 if halves else 1
        inward = channels if halves else half
        self.halves = halves
        self.left: nn.Module = nn.Identity()
        if halves:
            apart = conv_norm(inward, inward, 3, stride=stride, groups=inward)
            self.left = nn.Sequential(*apart, *conv_norm(inward, half), nn.ReLU())
        self.right = nn.Sequential(
            *conv_norm(inward, half),
            nn.ReLU(),
            *conv_norm(half, half, 3, stride=stride, groups=half),
            *conv_norm(half, half),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        left, right = (maps, maps) if self.halves else maps.chunk(2, dim=1)
        out = torch.cat([self.left(left), self.right(right)], dim=1)
        # Channels of both halves in turn: (N, 2 C, H, W) as (N, 2, C, H, W) and turned round.
        turned = out.reshape(out.shape[0], 2, -1, *out.shape[2:]).transpose(1, 2)
        return turned.flatten(1, 2)


@register("model", "shufflenetv2")
def shufflenetv2(
    *,
    classes: int,
    channels: int = 3,
    multiplier: float = 1.0,
    form: Literal["small", "imagenet"] = "small",
) -> Network:
    """ShuffleNetV2 of one of the paper's four widths.

    Feature points: ``layer1``, ``layer2``, ``layer3``, the three stages, 2, 4 and 8 times
    smaller than the image (8, 16 and 32 times in the other form), and ``pool`` ``(N, 1024)``.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        multiplier: The paper's width: 0.5, 1, 1.5 or 2.
        form: ``small`` for images of 32 to 64 pixels (the stem is a 1x1 convolution), or
            ``imagenet`` (the paper's: 3x3 of stride 2, then a max-pool).

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> net = shufflenetv2(classes=100)
        >>> sum(p.numel() for p in net.parameters())
        1355528
    """
    one_of("form", form, ("small", "imagenet"))
    one_of("multiplier", multiplier, tuple(_WIDTHS))
    *widths, last = _WIDTHS[float(multiplier)]
    before = 24
    if form == "imagenet":
        stem = [*conv_norm(whole("channels", channels), before, 3, stride=2), nn.ReLU()]
        stem.append(nn.MaxPool2d(3, 2, 1))
    else:
        stem = [*conv_norm(whole("channels", channels), before), nn.ReLU()]
    modules: dict[str, nn.Module] = {"stem": nn.Sequential(*stem)}
    for number, (width, blocks) in enumerate(zip(widths, _BLOCKS, strict=True), start=1):
        first = _Block(before, width, halves=True)
        rest = (_Block(width, width, halves=False) for _ in range(blocks - 1))
        modules[f"layer{number}"] = nn.Sequential(first, *rest)
        before = width
    modules["head"] = nn.Sequential(*conv_norm(before, last), nn.ReLU())
    modules |= {"pool": GlobalPool(), "linear": nn.Linear(last, whole("classes", classes))}
    return initialise(Network(modules, ("layer1", "layer2", "layer3", "pool")))
