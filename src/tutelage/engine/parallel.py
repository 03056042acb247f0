"""Several processes learn as one: torch's own DDP and FSDP2 around a learner's model.

The model goes through DDP or `fully_shard`, which overlap their communication with the backward
pass; helpers (adapters), which are small and used outside the model's forward, are averaged after
it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tutelage.engine.learner import Learner
from tutelage.engine.machine import Machine

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def wrap(learner: Learner, machine: Machine) -> None:
    """Share ``learner``'s model among the processes."""
    if machine.parallel == "ddp":
        # Buffers are left alone: BatchNorm statistics are each process's own, rank 0's are kept.
        wrapped = DistributedDataParallel(learner.model, broadcast_buffers=False)
        learner.forward = wrapped
    elif machine.parallel == "fsdp":
        model = learner.model.model
        for child in model.children():
            if any(True for _ in child.parameters()):
                fully_shard(child)
        fully_shard(model)


@contextmanager
def gradients_stay(learner: Learner, machine: Machine) -> Iterator[None]:
    """No communication in the backward passes inside: a later one sends the sum."""
    forward = learner.forward
    if isinstance(forward, DistributedDataParallel):
        with forward.no_sync():
            yield
    elif isinstance(learner.model.model, FSDPModule):
        learner.model.model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            learner.model.model.set_requires_gradient_sync(True)
    else:
        yield


def average_helpers(helpers: nn.Module) -> None:
    """Mean of the helpers' gradients over all processes."""
    parameters = [p for p in helpers.parameters() if p.requires_grad]
    if not parameters:
        return
    flat = torch.cat(
        [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters]
    )
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def gradient_norm(parameters: list[Tensor]) -> Tensor:
    """L2 norm over whole and sharded gradients together."""
    squares = []
    for parameter in parameters:
        if parameter.grad is not None:
            squares.append(_whole(torch.linalg.vector_norm(parameter.grad.float())) ** 2)
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())


def whole_state(learner: Learner) -> dict[str, Any]:
    """The learner's state, gathered from all shards; every process must call it."""
    if not isinstance(learner.model.model, FSDPModule):
        return learner.state_dict()
    assert learner.optimizer is not None
    both = nn.ModuleDict({"model": learner.model, "helpers": learner.helpers})
    return {
        "model": get_model_state_dict(both, options=_WHOLE),
        "optimizer": get_optimizer_state_dict(both, learner.optimizer, options=_WHOLE),
        "shadow": {k: _whole(v) for k, v in learner.shadow.items()},
    }


def load_whole_state(learner: Learner, state: dict[str, Any]) -> None:
    """Put what `whole_state` gave back into the shards."""
    if not isinstance(learner.model.model, FSDPModule):
        learner.load_state_dict(state)
        return
    assert learner.optimizer is not None
    both = nn.ModuleDict({"model": learner.model, "helpers": learner.helpers})
    set_model_state_dict(both, state["model"], options=_WHOLE)
    set_optimizer_state_dict(both, learner.optimizer, state["optimizer"], options=_WHOLE)
    for name, kept in learner.shadow.items():
        _put(kept, state["shadow"][name])


def whole_model(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's weights as plain tensors; every process must call it."""
    return {k: _whole(v.detach()).clone() for k, v in model.state_dict().items()}


def load_whole_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put what `whole_model` gave back, into shards where there are shards."""
    with torch.no_grad():
        for name, kept in model.state_dict().items():
            _put(kept, state[name])


def _put(kept: Tensor, value: Tensor) -> None:
    if isinstance(kept, DTensor):
        kept.copy_(distribute_tensor(value.to(kept.device), kept.device_mesh, kept.placements))
    else:
        kept.copy_(value)


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value
