"""Plain convolutional networks.

Very Deep Convolutional Networks for Large-Scale Image Recognition, Simonyan and Zisserman, 2014
(arXiv 1409.1556); with batch normalisation and one linear layer, as usual for small images.
"""

from collections.abc import Sequence

from torch import nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.zoo.parts import GlobalPool, Network, conv_norm, initialise, whole, wholes


@register("model", "vgg")
def vgg(
    *,
    classes: int,
    channels: int = 3,
    widths: Sequence[int] = (32, 64, 128),
    per_stage: int | Sequence[int] = 2,
    pools: int | None = None,
    bias: bool = False,
) -> Network:
    """Stages of convolution, batch normalisation and ReLU, with max-pooling after each.

    Feature points: ``layer1``, ``layer2``, ..., the stages after activation and before pooling,
    stage s of shape ``(N, widths[s-1], H / 2**(s-1), W / 2**(s-1))``, and ``pool``
    ``(N, widths[-1])``.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        widths: Channels of each stage.
        per_stage: Convolutions in every stage, or in each.
        pools: How many stages, from the first, are followed by a halving max-pool; None means
            all. Images must be at least ``2**pools`` pixels wide.
        bias: Convolutions have a bias (of no effect before a normalisation: for weights of
            others, which have it).

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range, or lists differ in length.

    Example:
        >>> net = vgg(classes=10, channels=1, widths=(8, 16, 32), per_stage=1)
        >>> sum(p.numel() for p in net.parameters())
        6274
    """
    sizes = wholes("widths", widths)
    counts = (
        (whole("per_stage", per_stage),) * len(sizes)
        if isinstance(per_stage, int)
        else wholes("per_stage", per_stage)
    )
    if len(counts) != len(sizes):
        raise ModelError(
            f"vgg: widths names {len(sizes)} stages and per_stage {len(counts)}: give one number "
            "for all, or one for each."
        )
    halved = len(sizes) if pools is None else whole("pools", pools, least=0)
    modules: dict[str, nn.Module] = {}
    before = whole("channels", channels)
    for number, (width, count) in enumerate(zip(sizes, counts, strict=True), start=1):
        layer = nn.Sequential()
        for _ in range(count):
            layer.extend([*conv_norm(before, width, 3, bias=bias), nn.ReLU()])
            before = width
        modules[f"layer{number}"] = layer
        if number <= halved:
            modules[f"pool{number}"] = nn.MaxPool2d(2)
    modules |= {"pool": GlobalPool(), "linear": nn.Linear(before, whole("classes", classes))}
    points = [name for name in modules if name.startswith("layer")]
    return initialise(Network(modules, [*points, "pool"]))


def _named(depth: int, per_stage: tuple[int, ...]) -> None:
    def build(*, classes: int, channels: int = 3) -> Network:
        return vgg(
            classes=classes,
            channels=channels,
            widths=(64, 128, 256, 512, 512),
            per_stage=per_stage,
            pools=3,
            bias=True,
        )

    build.__doc__ = (
        f"VGG-{depth} for 32x32 images (feature points layer1 to layer5, pool), as in the "
        "distillation literature (arXiv 1910.10699): three poolings, one linear layer: see `vgg`."
    )
    register("model", f"vgg{depth}")(build)


_named(8, (1, 1, 1, 1, 1))
_named(11, (1, 1, 2, 2, 2))
_named(13, (2, 2, 2, 2, 2))
_named(16, (2, 2, 3, 3, 3))
_named(19, (2, 2, 4, 4, 4))
