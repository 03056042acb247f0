"""MobileNetV2.

Inverted Residuals and Linear Bottlenecks, Sandler et al., 2018 (arXiv 1801.04381). The form for
small images is that of the distillation literature (arXiv 1910.10699).
"""

from typing import Literal

from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.zoo.parts import GlobalPool, Network, conv_norm, initialise, one_of, whole

# (expanded at all, channels, blocks, stride), the paper's table 2
_STAGES = (
    (False, 16, 1, 1),
    (True, 24, 2, 2),
    (True, 32, 3, 2),
    (True, 64, 4, 2),
    (True, 96, 3, 1),
    (True, 160, 3, 2),
    (True, 320, 1, 1),
)


class _Block(nn.Module):
    """1x1 up, 3x3 channel by channel, 1x1 down without activation; added where shapes agree."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int, *, imagenet: bool):
        super().__init__()
        inner = channels * expansion
        activation = nn.ReLU6 if imagenet else nn.ReLU
        steps: list[nn.Module] = []
        if expansion > 1 or not imagenet:  # the small form keeps a 1x1 convolution that widens by 1
            steps += [*conv_norm(channels, inner), activation()]
        steps += [*conv_norm(inner, inner, 3, stride=stride, groups=inner), activation()]
        steps += conv_norm(inner, filters)
        self.conv = nn.Sequential(*steps)
        self.adds = stride == 1 and channels == filters

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.conv(maps)
        return maps + out if self.adds else out


@register("model", "mobilenetv2")
def mobilenetv2(
    *,
    classes: int,
    channels: int = 3,
    multiplier: float = 0.5,
    expansion: int = 6,
    form: Literal["small", "imagenet"] = "small",
) -> Network:
    """MobileNetV2, by default the half-width one of the distillation literature.

    Feature points: ``layer1`` to ``layer7``, the paper's seven stages (the literature matches
    ``layer2``, ``layer3``, ``layer5``, ``layer7``), all without activation, and ``pool``
    ``(N, 1280)``. In the small form they are 2, 2, 4, 8, 8, 16 and 16 times smaller than the
    image; in the other, from ``layer2`` on, twice that.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        multiplier: Of every width; above 1 also of the 1280 last channels.
        expansion: How many times wider the inside of a block is.
        form: ``small`` for images of 32 to 64 pixels (the second stage keeps its size), or
            ``imagenet`` (the paper's: every stride, widths rounded to multiples of 8, ReLU6).

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> net = mobilenetv2(classes=100)
        >>> sum(p.numel() for p in net.parameters())
        812836
    """
    one_of("form", form, ("small", "imagenet"))
    if not multiplier > 0:
        raise ModelError(f"mobilenetv2: multiplier must be above 0, got {multiplier!r}.")
    imagenet = form == "imagenet"
    whole("expansion", expansion)

    def scaled(width: int) -> int:
        return _rounded(width * multiplier) if imagenet else max(1, int(width * multiplier))

    activation = nn.ReLU6 if imagenet else nn.ReLU
    before = scaled(32)
    stem = [*conv_norm(whole("channels", channels), before, 3, stride=2), activation()]
    modules: dict[str, nn.Module] = {"stem": nn.Sequential(*stem)}
    for number, (expanded, width, blocks, stride) in enumerate(_STAGES, start=1):
        first = 1 if number == 2 and not imagenet else stride
        layer = nn.Sequential()
        for block in range(blocks):
            inner = expansion if expanded else 1
            stride_here = first if block == 0 else 1
            layer.append(_Block(before, scaled(width), stride_here, inner, imagenet=imagenet))
            before = scaled(width)
        modules[f"layer{number}"] = layer
    last = max(1280, scaled(1280))
    modules["head"] = nn.Sequential(*conv_norm(before, last), activation())
    modules |= {"pool": GlobalPool(), "linear": nn.Linear(last, whole("classes", classes))}
    points = [f"layer{number}" for number in range(1, len(_STAGES) + 1)]
    return initialise(Network(modules, [*points, "pool"]))


def _rounded(width: float) -> int:
    """To a multiple of 8, at least 8 and not more than a tenth below."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near
