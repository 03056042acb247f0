"""Networks that are provably one layer after another, and which layers feed which."""

from dataclasses import dataclass, field

from torch import nn

from tutelage.core.errors import ModelError
from tutelage.models.zoo.parts import GlobalPool, Network

_CONTAINERS = (nn.Sequential, Network)
_POINTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Identity,
    nn.Dropout,
)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class Link:
    """A layer whose units can be taken out, and all that is narrowed with it.

    Attributes:
        path: The layer's name in the model.
        maker: A linear layer or convolution: its outputs are the units.
        reader: The next one: its inputs are the units.
        norms: Normalisations between them, one weight a unit.
        pooled: Whether the places of a map became one (a global pool) or columns (flattening).
    """

    path: str
    maker: nn.Linear | nn.Conv2d
    reader: nn.Linear | nn.Conv2d | None = None
    norms: list[nn.BatchNorm1d | nn.BatchNorm2d] = field(default_factory=list)
    pooled: bool = False

    @property
    def units(self) -> int:
        """How many outputs the maker has."""
        return len(self.maker.weight)


def links_of(model: nn.Module) -> list[Link]:
    """Every layer of a chain that another layer reads, from the first to the last but one.

    A network is a chain if it is nothing but `torch.nn.Sequential` (the zoo's ``Network`` too)
    around layers that this module knows, so that nothing can be added, joined or read twice.

    Raises:
        ModelError: It is not, or holds a layer whose channels cannot be followed.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> [(link.path, link.units) for link in links_of(net)]
        [('0', 8)]
    """
    links: list[Link] = []
    for path, layer in _leaves(model):
        last = links[-1] if links else None
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if last is not None:
                _join(last, path, layer)
            links.append(Link(path, layer))
        elif last is not None:
            _pass(last, path, layer)
    return links[:-1]


def _leaves(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    _walk("", model, found)
    seen: set[int] = set()
    for path, layer in found:
        known = {id(p) for p in layer.parameters()}
        if known & seen or (known and _hooked(layer)):
            raise ModelError(
                f"{path!r} shares its weights with another layer, or has hooks: its units cannot "
                "be taken out safely."
            )
        seen |= known
    return found


def _walk(path: str, module: nn.Module, found: list[tuple[str, nn.Module]]) -> None:
    if type(module) in _CONTAINERS:
        if _hooked(module):
            raise ModelError(f"{path or 'the model'!r} has hooks: it cannot be pruned safely.")
        for name, child in module.named_children():
            _walk(f"{path}.{name}" if path else name, child, found)
        # named_children says a module that is run twice only once.
        if len(module._modules) != len(list(module.named_children())):
            raise ModelError(f"{path or 'the model'!r} runs a layer twice: it cannot be pruned.")
        return
    known = (nn.Linear, nn.Conv2d, nn.Flatten, GlobalPool, *_POINTWISE, *_POOLS, *_NORMS)
    if type(module) not in known:
        raise ModelError(
            f"{path or 'the model'!r} is a {type(module).__name__}, which may add or join what it "
            "reads: only chains of linear layers, convolutions, normalisations, activations and "
            "pools are pruned safely."
        )
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        raise ModelError(f"{path!r} is a grouped convolution: its units cannot be taken out alone.")
    found.append((path, module))


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _join(link: Link, path: str, reader: nn.Linear | nn.Conv2d) -> None:
    """Let ``reader`` read the units, if it is sure which of its inputs they are."""
    linear = isinstance(reader, nn.Linear)
    mapped = isinstance(link.maker, nn.Conv2d) and not link.pooled
    inputs = reader.in_features if isinstance(reader, nn.Linear) else reader.in_channels
    fits = inputs % link.units == 0 if link.pooled and linear else inputs == link.units
    # A linear layer on a map that was not flattened reads its last side, not its channels.
    if linear == mapped or not fits:
        raise ModelError(
            f"{path!r} takes {inputs} inputs after the {link.units} units of {link.path!r}: which "
            "belong to which cannot be told, so nothing is pruned."
        )
    link.reader = reader


def _pass(link: Link, path: str, layer: nn.Module) -> None:
    """Follow the units through a layer without inputs and outputs of its own."""
    mapped = isinstance(link.maker, nn.Conv2d) and not link.pooled
    safe = type(layer) in _POINTWISE
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        safe = layer.num_features == link.units and mapped == isinstance(layer, nn.BatchNorm2d)
        link.norms.append(layer)
    elif isinstance(layer, nn.Flatten):
        safe = (layer.start_dim, layer.end_dim) == (1, -1)
        link.pooled = True
    elif isinstance(layer, GlobalPool):
        safe, link.pooled = mapped, True
    elif type(layer) in _POOLS:
        safe = mapped
    if not safe:
        raise ModelError(
            f"the units of {link.path!r} cannot be followed through {path!r} "
            f"({type(layer).__name__}): nothing is pruned."
        )
