"""LeNet-5.

Gradient-Based Learning Applied to Document Recognition, LeCun, Bottou, Bengio, Haffner, 1998.
"""

from torch import nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.zoo.parts import Network, image_size, whole


@register("model", "lenet")
def lenet(
    *, classes: int, channels: int = 3, size: int | tuple[int, int] = 28, width: int = 1
) -> Network:
    """LeNet-5 as it is used today: ReLU and max-pooling, two convolutions, three linear layers.

    Feature points: ``layer1`` ``(N, 6 width, H/2, W/2)``, ``layer2``
    ``(N, 16 width, H/4 - 2, W/4 - 2)``, ``layer3`` ``(N, 120 width)``, ``layer4``
    ``(N, 84 width)``.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        size: Height and width of the images, or one number for both; at least 12.
        width: How many times wider than the paper's.

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: The images are too small, or an option is out of its range.

    Example:
        >>> net = lenet(classes=10, channels=1, size=28)
        >>> sum(p.numel() for p in net.parameters())
        61706
    """
    high, wide = ((side // 2 - 4) // 2 for side in image_size("size", size))
    if high < 1 or wide < 1:
        raise ModelError(f"lenet needs images of at least 12x12 pixels, got size {size}.")
    times = whole("width", width)
    first, second, third, fourth = (number * times for number in (6, 16, 120, 84))
    layers = {
        "layer1": nn.Sequential(
            nn.Conv2d(whole("channels", channels), first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
        ),
        "layer2": nn.Sequential(nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2)),
        "flatten": nn.Flatten(),
        "layer3": nn.Sequential(nn.Linear(second * high * wide, third), nn.ReLU()),
        "layer4": nn.Sequential(nn.Linear(third, fourth), nn.ReLU()),
        "linear": nn.Linear(fourth, whole("classes", classes)),
    }
    return Network(layers, ("layer1", "layer2", "layer3", "layer4"))
