"""Networks of linear layers, for tables, vectors and very small images."""

from collections.abc import Sequence

from torch import nn

from tutelage.core.registry import register
from tutelage.models.zoo.parts import Network, fraction, whole, wholes


@register("model", "mlp")
def mlp(
    *,
    inputs: int,
    classes: int,
    channels: int = 1,
    hidden: Sequence[int] = (512, 256),
    dropout: float = 0.0,
) -> Network:
    """Linear layers with ReLU between them, on whatever has ``inputs`` numbers in an example.

    Feature points: ``layer1``, ``layer2``, ..., each ``(N, hidden[i])``.

    Args:
        inputs: Numbers in one example, all channels together: 784 for a 28x28 image.
        classes: Number of logits.
        channels: Of no effect: they are counted in ``inputs``.
        hidden: Width of each hidden layer.
        dropout: Share of values dropped after each hidden layer.

    Returns:
        A model from ``(N, ...)``, flattened, to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> sum(p.numel() for p in mlp(inputs=4, classes=2, hidden=(3,)).parameters())
        23
    """
    rate, before = fraction("dropout", dropout), whole("inputs", inputs)
    modules: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, width in enumerate(wholes("hidden", hidden), start=1):
        steps: list[nn.Module] = [nn.Linear(before, width), nn.ReLU()]
        if rate:
            steps.append(nn.Dropout(rate))
        modules[f"layer{number}"], before = nn.Sequential(*steps), width
    modules["linear"] = nn.Linear(before, whole("classes", classes))
    return Network(modules, [name for name in modules if name.startswith("layer")])
