"""Where a network's int8 file will round: found in its graph, not guessed from its modules."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from tutelage.compression.spans import Activation
from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError
from tutelage.core.quiet import quietly
from tutelage.models.observed import Observed

_LAYERS = ("conv2d", "linear")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# What hands on the values that it reads, or some of them.
_KEEPING = (
    "alias",
    "clone",
    "contiguous",
    "dropout",
    "feature_dropout",
    "flatten",
    "max_pool2d",
    "permute",
    "relu",
    "relu_",
    "reshape",
    "slice",
    "squeeze",
    "transpose",
    "unsqueeze",
    "view",
)


@dataclass(frozen=True)
class Place:
    """A layer that will run in eight bits.

    Attributes:
        path: Its name in the model.
        norm: The batch normalisation that reads it alone, and is folded into it.
        activation: What alone reads that, and is computed by the same kernel.
        source: The layer whose rounded output it reads; None if others compute in between.
        answers: Whether its output is rounded: linear layers without activation answer in float.
    """

    path: str
    norm: str | None
    activation: Activation
    source: str | None
    answers: bool


class _Whole(nn.Module):
    def __init__(self, observed: Observed):
        super().__init__()
        self.intake, self.model, self.read = observed.intake, observed.model, observed.read

    def forward(self, inputs: Inputs) -> Tensor:
        return self.read(self.model, self.intake(inputs))


def places_of(observed: Observed, inputs: Inputs) -> list[Place]:
    """The convolutions and linear layers of a model, in the order they run.

    A layer that runs twice, or shares its weight, stays in float.

    Args:
        observed: In eval mode; left as it is.
        inputs: Of two examples at least.

    Raises:
        ModelError: The model's graph cannot be taken, or a normalisation after a convolution is
            of a kind that cannot be folded.
    """
    try:
        with quietly(), torch.no_grad():
            program = torch.export.export(_Whole(observed), (inputs,))
    except Exception as error:  # torch.export raises whatever it meets
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ModelError(
            "the model's graph cannot be taken, so it is not known where int8 rounds (a forward "
            f"pass must not branch on values): {said[:200]}"
        ) from error
    signature = program.graph_signature
    owners = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    owned = {node: owners[node.name] for node in program.graph.nodes if node.name in owners}
    modules = dict(observed.model.named_modules())
    found: list[Place] = []
    ends: dict[Node, str] = {}
    for node in program.graph.nodes:
        path = _layer(node, owned, modules)
        if path is None:
            continue
        norm, end = _norm(node, path, owned, modules)
        activation, end = _activation(end)
        answers = _kind(node) == "conv2d" or activation != "none"
        found.append(Place(path, norm, activation, _source(node.args[0], ends), answers))
        if answers:
            ends[end] = path
    if not found:
        raise ModelError(
            "the model has no convolution or linear layer that runs once with a weight of its "
            "own: nothing of it can learn in int8."
        )
    return found


def _kind(node: Node) -> str:
    """``relu`` for ``aten.relu.default``; empty for what is no operator."""
    name = str(node.target) if node.op == "call_function" else ""
    return name.split(".")[1] if name.startswith("aten.") else ""


def _owner(argument: Any, owned: dict[Node, str]) -> str | None:
    """The path of the module of the model that alone owns, and once uses, this tensor."""
    if not isinstance(argument, Node) or argument not in owned or len(argument.users) != 1:
        return None
    name = owned[argument]
    return name.removeprefix("model.").rpartition(".")[0] if name.startswith("model.") else None


def _layer(node: Node, owned: dict[Node, str], modules: dict[str, nn.Module]) -> str | None:
    if _kind(node) not in _LAYERS:
        return None
    path = _owner(node.args[1], owned)
    return path if path is not None and type(modules[path]) in (nn.Conv2d, nn.Linear) else None


def _norm(
    node: Node, path: str, owned: dict[Node, str], modules: dict[str, nn.Module]
) -> tuple[str | None, Node]:
    after = _only_user(node)
    if after is None or _kind(after) != "batch_norm":
        return None, node
    norm = _owner(after.args[3], owned)
    if norm is None or type(modules[norm]) not in _NORMS:
        what = "without statistics of its own" if norm is None else type(modules[norm]).__name__
        raise ModelError(
            f"the normalisation after {path!r} ({what}) cannot be folded into it: int8 would "
            "round elsewhere in the file than in training."
        )
    return norm, after


def _activation(node: Node) -> tuple[Activation, Node]:
    after = _only_user(node)
    kind = "" if after is None else _kind(after)
    if after is not None and kind in ("relu", "relu_"):
        return "relu", after
    six = kind in ("relu6", "relu6_") or (
        after is not None and kind in ("hardtanh", "hardtanh_") and tuple(after.args[1:]) == (0, 6)
    )
    return ("relu6", after) if six and after is not None else ("none", node)


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _source(argument: Any, ends: dict[Node, str]) -> str | None:
    while isinstance(argument, Node):
        if argument in ends:
            return ends[argument]
        if _kind(argument) not in _KEEPING:
            return None
        argument = argument.args[0]
    return None
