"""What all families of the zoo are made of."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from tutelage.core.errors import ModelError


class Network(nn.Sequential):
    """Named modules, run one after another: the last is ``linear``, which makes the logits.

    Every name is a path that can be tapped, and in every family ``linear:in`` is the vector
    ``(N, D)`` that the logits are made from.

    Args:
        modules: The modules by name, in order.
        points: The names worth matching, from the input to the output: the feature points that
            this library promises to keep.

    Example:
        >>> net = Network({"layer1": nn.Linear(4, 3), "linear": nn.Linear(3, 2)}, ["layer1"])
        >>> net.feature_points
        ('layer1',)
    """

    def __init__(self, modules: Mapping[str, nn.Module], points: Iterable[str] = ()):
        super().__init__(OrderedDict(modules))
        self.feature_points = tuple(points)


class GlobalPool(nn.Module):
    """Mean over all places: ``(N, C, H, W)`` to ``(N, C)``."""

    def forward(self, maps: Tensor) -> Tensor:
        """The mean of each channel."""
        return maps.mean(dim=(-2, -1))


def conv_norm(
    channels: int,
    filters: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> list[nn.Module]:
    """A convolution that keeps the size (but for its stride), and batch normalisation."""
    return [
        nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(filters),
    ]


def initialise(network: Network) -> Network:
    """Draw convolution weights as He et al. do (arXiv 1502.01852): normal, by their outputs.

    Biases of convolutions start at zero; linear layers and norms keep torch's own start.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def blocks_of(family: str, depth: int, step: int, rest: int, least: int) -> int:
    """How many blocks a stage has, where ``depth = step * blocks + rest``.

    >>> blocks_of("resnet", 20, 6, 2, 8)
    3
    """
    whole("depth", depth)
    blocks, over = divmod(depth - rest, step)
    if over or depth < least:
        near = max(least, step * round((depth - rest) / step) + rest)
        raise ModelError(
            f"{family}: depth is {step} n + {rest}, at least {least}, and got {depth}: "
            f"{near} is the nearest."
        )
    return blocks


def whole(option: str, value: object, least: int = 1) -> int:
    """``value``, a whole number of at least ``least``, as every size is.

    >>> whole("classes", 10)
    10
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ModelError(f"{option} must be a whole number of at least {least}, got {value!r}.")
    return value


def wholes(option: str, values: object, least: int = 1) -> tuple[int, ...]:
    """``values``, a list of whole numbers that is not empty."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ModelError(f"{option} must be a list of whole numbers, got {values!r}.")
    return tuple(whole(option, value, least) for value in values)


def fraction(option: str, value: object) -> float:
    """``value``, a number in [0, 1), as a rate of dropout is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ModelError(f"{option} must be a number from 0 to below 1, got {value!r}.")
    return float(value)


def image_size(option: str, value: object) -> tuple[int, int]:
    """Height and width, from one number for a square or from two."""
    if isinstance(value, int):
        return whole(option, value), whole(option, value)
    sizes = wholes(option, value)
    if len(sizes) != 2:
        raise ModelError(f"{option} must be one number or (height, width), got {value!r}.")
    return sizes[0], sizes[1]


def one_of(option: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a ``value`` that is not among those ``allowed``."""
    if value not in allowed:
        raise ModelError(f"{option} must be {' or '.join(map(repr, allowed))}, got {value!r}.")
