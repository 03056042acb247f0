"""What a run computes on, and in which precision: one process or several."""

import atexit
import os
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.distributed as dist

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, suggest
from tutelage.engine.options import whole_number

Precision = Literal["fp32", "bf16", "fp16"]
Parallel = Literal["none", "ddp", "fsdp"]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """Device, precision and parallelism of a run.

    Attributes:
        device: ``auto`` takes the first GPU where there is one.
        precision: ``bf16`` and ``fp16`` are mixed: weights and losses stay fp32, and fp16
            gradients are scaled. On CPUs bf16 is fast and fp16 hopeless.
        accumulate: Parts that each batch is cut into to save memory. The update is the same, but
            for BatchNorm in training, which normalises by each part, and for objectives that
            compare examples: a `BatchwiseWarning` names them.
        channels_last: Keep images channel-last: faster for convolutions nearly everywhere.
        compile: Run the networks through ``torch.compile``; a text names its backend
            (``inductor`` where it is just true).
        parallel: ``ddp`` and ``fsdp`` share each batch among the processes of ``torchrun``.
    """

    device: str = "auto"
    precision: Precision = "fp32"
    accumulate: int = 1
    channels_last: bool = False
    compile: bool | str = False
    parallel: Parallel = "none"

    def __post_init__(self) -> None:
        whole_number(self.accumulate, "accumulate")
        for name, known in (
            ("precision", ("fp32", *_TYPES)),
            ("parallel", ("none", "ddp", "fsdp")),
        ):
            if getattr(self, name) not in known:
                raise RecipeError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        try:
            place = self.place
        except RuntimeError as error:
            raise RecipeError(
                f"there is no device {self.device!r}: use auto, cpu, cuda or cuda:N."
            ) from error
        if place.type == "cuda" and not torch.cuda.is_available():
            raise RecipeError(f"device {self.device!r} was asked for, and torch sees no GPU here.")
        if isinstance(self.compile, str):
            _check_backend(self.compile)

    @property
    def place(self) -> torch.device:
        """The torch device."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        place = torch.device(name)
        if place.type == "cuda" and place.index is None:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        return place

    @property
    def backend(self) -> str:
        """The backend that ``torch.compile`` uses, where it is used."""
        return self.compile if isinstance(self.compile, str) else "inductor"

    def autocast(self) -> Any:
        """Context in which models run in the chosen precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.place.type, dtype=_TYPES[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps fp16 gradients out of underflow; does nothing in other precisions."""
        return torch.amp.GradScaler(self.place.type, enabled=self.precision == "fp16")


def _check_backend(name: str) -> None:
    from torch._dynamo import list_backends  # a second, so only where it is asked for

    known = list_backends(exclude_tags=())
    if name not in known:
        raise RecipeError(
            f"compile: torch knows no backend {name!r} here (true takes inductor). "
            f"{suggest(name, known)}"
        )


def join_processes(machine: Machine) -> None:
    """Join the processes that ``torchrun`` started, if the run is to be shared.

    Once a program: the group stays until the program ends, since torch cannot meet the same
    processes again in the same place. Later runs use it.
    """
    if machine.parallel == "none":
        several = world() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))
        if several > 1:
            raise RecipeError(
                f"this is one of {several} processes, and parallel is none, so each would learn "
                "everything and write over the others: set parallel to ddp or fsdp, or start one."
            )
        return
    if machine.place.type == "cuda":
        torch.cuda.set_device(machine.place)
    if dist.is_initialized():
        return
    if "RANK" not in os.environ:
        raise RecipeError(
            f"parallel: {machine.parallel} needs several processes: start the run with "
            "'torchrun --nproc-per-node 2 -m tutelage run ...'."
        )
    dist.init_process_group("nccl" if machine.place.type == "cuda" else "gloo")
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 where there is one alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(value: float, device: torch.device) -> float:
    """Sum of ``value`` over all processes."""
    if world() == 1:
        return value
    shared = torch.tensor(float(value), device=device, dtype=torch.float64)
    dist.all_reduce(shared)
    return float(shared)


def agree(value: float, device: torch.device) -> float:
    """The first process's ``value``, on all of them: for decisions that must be the same."""
    if world() == 1:
        return value
    shared = torch.tensor(float(value), device=device, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)


def share(batch: Batch) -> Batch:
    """This process's part of ``batch``."""
    if world() == 1:
        return batch
    if len(batch) < world():
        raise RecipeError(
            f"a batch of {len(batch)} examples cannot be shared by {world()} processes: "
            "make batches larger, or drop the last one of an epoch."
        )
    return cut(batch, world())[rank()]


def cut(batch: Batch, parts: int) -> list[Batch]:
    """``batch`` in exactly ``parts`` parts of near equal length, in order."""
    if parts <= 1:
        return [batch]
    edges = [len(batch) * i // parts for i in range(parts + 1)]
    return [batch[start:end] for start, end in pairwise(edges)]
