"""Networks with residual additions: which layers must lose the same units together.

Torch-pruning (extra ``compress``) follows the units through the graph: Fang, Ma, Song, Mi, Wang:
DepGraph: Towards Any Structural Pruning, 2023, arXiv:2301.12900. Only what it finds is used; the
tensors are cut here.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tutelage.compression.units import KNOWN, NORMS, Coupled, Member, Side, by_channel
from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.models.observed import Observed


def coupled_of(observed: Observed, inputs: Inputs) -> list[Coupled]:
    """All groups of units that can be taken out; those that make the logits are none.

    A group is left out if a layer makes only some of its units (where channels are joined or
    padded with zeros, as ResNets without weights in their shortcuts do).

    Args:
        observed: In eval mode, on its own copy: its parameters are made to require gradients.
        inputs: A few examples.

    Raises:
        ModelError: The model holds a layer whose units cannot be followed.
        NotInstalled: torch-pruning is missing.
    """
    head = _head(observed, inputs)
    graph, kinds = _graph(observed, inputs)
    modules = {module: path for path, module in observed.model.named_modules()}
    found = []
    for group in graph.get_all_groups(ignored_layers=[head], root_module_types=[*KNOWN[:2]]):
        made = _coupled(group, modules, kinds)
        if made is not None:
            found.append(made)
    return found


def _graph(observed: Observed, inputs: Inputs) -> tuple[Any, Any]:
    try:
        with quietly():
            import torch_pruning
            from torch_pruning.pruner import function
    except ImportError as error:
        raise NotInstalled(
            'networks that are no chain are pruned with torch-pruning: pip install "tutelage'
            '[compress]".'
        ) from error
    observed.requires_grad_(True)  # the graph is that of the gradients
    try:
        with quietly(), torch.enable_grad():
            graph = torch_pruning.DependencyGraph().build_dependency(
                observed.model,
                example_inputs=inputs,
                forward_fn=lambda model, given: observed.read(model, observed.intake(given)),
            )
    except Exception as error:  # it raises whatever it meets
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"the model's units cannot be followed, nothing is pruned: {said}") from (
            error
        )
    return graph, function


def _coupled(group: Any, modules: dict[nn.Module, str], kinds: Any) -> Coupled | None:
    """What torch-pruning found, if every layer makes all of the units in their order."""
    incoming = {kinds.prune_conv_in_channels, kinds.prune_linear_in_channels}
    root = group[0].dep.target.module
    made = Coupled(modules[root], len(root.weight))
    for item in group:
        module = item.dep.target.module
        if not isinstance(module, KNOWN) or module not in modules:
            continue  # an operation without weights
        side: Side = "in" if item.dep.handler in incoming and not by_channel(module) else "out"
        member = Member(modules[module], side, list(item.idxs), list(item.root_idxs))
        if side == "out" and not isinstance(module, NORMS):
            own = range(len(module.weight))
            if len(own) != made.count or member.rows != list(own):
                return None
        made.members.append(member)
    return made if any(member.side == "in" for member in made.members) else None


def _head(observed: Observed, inputs: Inputs) -> nn.Module:
    """The layer that ran last: it makes the logits. Refuses what cannot be pruned at all."""
    _refuse(observed.model)
    ran: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, given, out: ran.append(module))
        for _, module in _weighted(observed.model)
    ]
    try:
        with torch.no_grad():
            observed.read(observed.model, observed.intake(inputs))
    finally:
        for handle in handles:
            handle.remove()
    if len(set(ran)) != len(ran):
        raise ModelError("the model runs a layer twice: it cannot be pruned.")
    layers = [module for module in ran if isinstance(module, nn.Conv2d | nn.Linear)]
    if not layers:
        raise ModelError("the model runs no convolution or linear layer: it cannot be pruned.")
    return layers[-1]


def _refuse(model: nn.Module) -> None:
    seen: set[int] = set()
    for path, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise ModelError(f"{path or 'the model'!r} has hooks: it cannot be pruned safely.")
    for path, module in _weighted(model):
        known = {id(parameter) for parameter in module.parameters(recurse=False)}
        if known & seen:
            raise ModelError(f"{path!r} shares its weights with another layer: nothing is pruned.")
        seen |= known
        if not isinstance(module, KNOWN):
            raise ModelError(
                f"{path or 'the model'!r} is a {type(module).__name__}: only networks of "
                "convolutions, linear layers and batch normalisations are pruned (attention and "
                "recurrent layers are not)."
            )
        grouped = isinstance(module, nn.Conv2d) and module.groups != 1
        if grouped and not module.groups == module.in_channels == module.out_channels:
            raise ModelError(
                f"{path!r} is a grouped convolution: its units cannot be taken out alone."
            )


def _weighted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            yield path, module
