"""The same names for the same places in language models of many makes.

================  ==========================================================================
name              place
================  ==========================================================================
``embed``         the embedding, ``(N, T, D)``
``layers.0``      the first block, ``(N, T, D)``; ``layers.1`` the second, and so on
``head``          what makes the logits; ``head:in`` ``(N, T, D)`` is what it reads
================  ==========================================================================

Of models with two stacks, ``encoder.layers.0`` and ``decoder.layers.0``. With the grammar of
`tutelage.models.taps`, ``layers.0:queries``, ``:keys``, ``:values`` and ``:attention`` are those
of the block's attention, as it multiplies them: with rotary positions in them. A name of the
model's own (``model.layers.0.self_attn.q_proj``) goes before these.
"""

from collections.abc import Iterator

from torch import nn

from tutelage.core.errors import MissingFeature, suggest
from tutelage.models.zoo.parts import Network


def named_points(model: nn.Module) -> dict[str, str]:
    """The common names that this model has, each with the path of its module.

    Models of the zoo that are made of blocks of attention, models of the transformers library,
    and whatever is wrapped around one.

    Example:
        >>> from tutelage.models import build_model
        >>> net = build_model({"gpt": {"layers": 2}}, classes=9, shape=(4,))
        >>> named_points(net)
        {'embed': 'embed', 'layers.0': 'layer1', 'layers.1': 'layer2', 'head': 'linear'}
    """
    for path, module in model.named_modules():
        if isinstance(module, Network):
            return _of_zoo(module, f"{path}." if path else "")
        if is_transformers(module):
            return _of_transformers(model, module, path)
    return {}


def path_at(model: nn.Module, name: str, use: str = "") -> str:
    """The path of the module of that path, or of that common name.

    Raises:
        MissingFeature: There is none; ``use`` says what it was wanted for.
    """
    known = {path for path, _ in model.named_modules() if path}
    if name in known:
        return name
    points = named_points(model)
    if name in points:
        return points[name]
    nearest = suggest(str(name), known | set(points))
    raise MissingFeature(f"the model has no module {name!r}{use}. {nearest}")


def is_transformers(module: nn.Module) -> bool:
    """Whether this is a model of the transformers library; it is not imported to find out."""
    return any(
        kind.__module__.startswith("transformers.") and kind.__name__ == "PreTrainedModel"
        for kind in type(module).__mro__
    )


def _of_zoo(network: Network, prefix: str) -> dict[str, str]:
    names = [name for name, _ in network.named_children()]
    blocks = [name for name in names if name.startswith("layer")]
    if not blocks or not hasattr(getattr(network, blocks[0]), "attention"):
        return {}
    found = {"embed": f"{prefix}embed"} if "embed" in names else {}
    found |= {f"layers.{number}": prefix + name for number, name in enumerate(blocks)}
    return found | {"head": f"{prefix}linear"}


def _of_transformers(model: nn.Module, inner: nn.Module, path: str) -> dict[str, str]:
    prefix = f"{path}." if path else ""
    lists = list(_stacks(inner, prefix))
    found = {}
    embed = _path_of(model, _embedding(inner))
    if embed is not None:
        found["embed"] = embed
    for stack, length in lists:
        role = next((part for part in ("encoder", "decoder") if part in stack.split(".")), "")
        start = f"{role}.layers" if role and len(lists) > 1 else "layers"
        if f"{start}.0" not in found:
            found |= {f"{start}.{number}": f"{stack}.{number}" for number in range(length)}
    head = _path_of(model, inner.get_output_embeddings())  # type: ignore[operator]
    return found if head is None else found | {"head": head}


def _stacks(module: nn.Module, prefix: str) -> Iterator[tuple[str, int]]:
    """Lists of modules of one kind that are in no other list: path and length."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            if len(child) and len({type(one) for one in child}) == 1:
                yield prefix + name, len(child)
        else:
            yield from _stacks(child, f"{prefix}{name}.")


def _embedding(inner: nn.Module) -> nn.Module | None:
    """The sum of all embeddings where they are one module, else that of tokens."""
    found: nn.Module
    for name, found in inner.named_modules():
        if name.rpartition(".")[2] == "embeddings" and not isinstance(found, nn.Embedding):
            return found
    try:
        found = inner.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:
        return None
    return found


def _path_of(model: nn.Module, wanted: nn.Module | None) -> str | None:
    return next((path for path, module in model.named_modules() if module is wanted), None)
