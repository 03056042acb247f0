r"""Students that learn by small changes of rank r beside frozen weights.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen: LoRA: Low-Rank Adaptation of Large Language
Models, 2021, arXiv:2106.09685. The adapters are those of the peft library, put into the model
itself: its class, its paths and its reader stay what they were.
"""

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from tutelage.core.errors import ModelError, suggest
from tutelage.core.quiet import quietly
from tutelage.models.shrunk.pretrained import described_in, library
from tutelage.models.shrunk.stacks import stacks_of
from tutelage.models.zoo.gpt import GPT
from tutelage.models.zoo.parts import fraction
from tutelage.models.zoo.parts import whole as whole_number


def with_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] | None = None,
    dropout: float = 0.0,
    whole: Sequence[str] = (),
) -> nn.Module:
    r"""A copy of a model in which linear layers have adapters, and only these learn.

    .. math:: h = W x + \frac{\alpha}{r} B A \, \mathrm{dropout}(x)

    B begins at zero, so the copy answers as the model does.

    Args:
        model: It stays as it is.
        rank: r, rows of A.
        alpha: As above.
        targets: Which linear layers, by the ends of their paths, as ``q_proj``; None for all that
            are in blocks.
        dropout: Share of the adapters' inputs that is left out in training, in [0, 1).
        whole: Modules that learn whole, by the ends of their paths, as a fresh ``classifier``.

    Returns:
        A model of the same class; paths stay, and the weight of a target is at
        ``PATH.base_layer``. `merged` makes a plain model of it.

    Raises:
        ModelError: A target is no linear layer, or it is the head: a head with an adapter is no
            matrix that an objective such as ``linear_head`` could multiply; or an option is out of
            its range.
        NotInstalled: peft is not here.
    """
    whole_number("lora: rank", rank)
    fraction("lora: dropout", dropout)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0:
        raise ModelError(f"lora: alpha must be a number greater than 0, got {alpha!r}.")
    _refuse_adapters(model)
    paths = targets_of(model, targets)
    trained = [path for end in whole for path in _ending(model, end, "whole", nn.Module)]
    peft = library("peft")
    student = copy.deepcopy(model)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=paths, lora_dropout=dropout, bias="none"
    )
    with quietly():
        peft.inject_adapter_in_model(config, student)
    for path in trained:
        student.get_submodule(path).requires_grad_(True)
    return student


def has_adapters(model: nn.Module) -> bool:
    """Whether a model learns through adapters.

    >>> has_adapters(nn.Linear(2, 2))
    False
    """
    return any(type(module).__module__.startswith("peft.") for module in model.modules())


def merged(model: nn.Module) -> nn.Module:
    r"""A copy without adapters that answers as the model does, for export.

    .. math:: W' = W + \frac{\alpha}{r} B A

    Raises:
        ModelError: There are no adapters, or a merged weight is not finite.
        NotInstalled: peft is not here.
    """
    kind = library("peft").tuners.tuners_utils.BaseTunerLayer
    plain = copy.deepcopy(model)
    modules: list[tuple[str, Any]] = list(plain.named_modules())
    layers = [(path, module) for path, module in modules if isinstance(module, kind)]
    if not layers:
        raise ModelError("this model has no adapters to merge: it is plain already.")
    for path, layer in layers:
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise ModelError(f"the adapter at {path!r} cannot be merged: {error}") from error
        parent, _, name = path.rpartition(".")
        setattr(plain.get_submodule(parent), name, layer.get_base_layer())
    for module in plain.modules():
        for left in ("peft_config", "_hf_peft_config_loaded"):
            if left in vars(module):
                delattr(module, left)
    return plain.requires_grad_(True)


def targets_of(model: nn.Module, targets: Sequence[str] | None) -> list[str]:
    """Paths of the linear layers that adapters go to.

    Args:
        model: Any module.
        targets: Ends of paths; None for all linear layers in blocks.

    Raises:
        ModelError: There is no such linear layer, or it is the head.

    Example:
        >>> body = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2)])
        >>> targets_of(nn.ModuleDict({"body": body, "head": nn.Linear(4, 2)}), None)
        ['body.0.0', 'body.1.0']
    """
    if targets is None:
        inner = described_in(model)
        base = "" if inner is None or inner is model else _path_of(model, inner) + "."
        found = stacks_of(model if inner is None else inner, least=1)
        blocks = tuple(f"{base}{path}." for stack in found.values() for path in stack)
        return [
            path
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and f"{path}.".startswith(blocks)
        ]
    if isinstance(targets, str) or not targets:
        raise ModelError(f"lora: targets must be a list of ends of paths, got {targets!r}.")
    heads = _heads(model)
    paths = [path for end in targets for path in _ending(model, end, "targets", nn.Linear, heads)]
    return list(dict.fromkeys(paths))


def _ending(
    model: nn.Module, end: str, option: str, kind: type[nn.Module], heads: Sequence[nn.Module] = ()
) -> list[str]:
    named = {path: module for path, module in model.named_modules() if path}
    fit = {p: m for p, m in named.items() if p == end or p.endswith(f".{end}")}
    head = next((path for path, module in fit.items() if module in heads), None)
    if head is not None:
        raise ModelError(
            f"lora: targets has {end!r}, and {head!r} is the head (or shares its weight): "
            "objectives multiply that matrix itself (linear_head): leave it out, or let it learn "
            "whole (whole: [...])."
        )
    found = [path for path, module in fit.items() if isinstance(module, kind)]
    if not found:
        ends = {path.rpartition(".")[2] for path, m in named.items() if isinstance(m, kind)}
        what = "linear layer" if kind is nn.Linear else "module"
        raise ModelError(
            f"lora: {option} has {end!r}, and no {what} is called so. {suggest(end, ends)}"
        )
    return found


def _heads(model: nn.Module) -> list[nn.Module]:
    """The output layer, and embeddings that share its weight."""
    inner = described_in(model)
    head: Any = inner.linear if isinstance(inner, GPT) else None
    if inner is not None and head is None:
        head = inner.get_output_embeddings()
    if head is None:
        return []
    weight = getattr(head, "weight", head)
    return [m for m in model.modules() if m is head or getattr(m, "weight", None) is weight]


def _path_of(model: nn.Module, inner: nn.Module) -> str:
    named = ((path, module) for path, module in model.named_modules())
    return next((path for path, module in named if module is inner), "")


def _refuse_adapters(model: nn.Module) -> None:
    if any("lora_" in name for name, _ in model.named_parameters()):
        raise ModelError("lora: this model has adapters already: merge them first (merged).")
