"""What a run computes on, and in which precision: one process or several."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError

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
        accumulate: Parts that each batch is cut into to save memory; the update is the same.
        channels_last: Keep images channel-last: faster for convolutions nearly everywhere.
        compile: Run the networks through ``torch.compile``.
        parallel: ``ddp`` and ``fsdp`` share each batch among the processes of ``torchrun``.
    """

    device: str = "auto"
    precision: Precision = "fp32"
    accumulate: int = 1
    channels_last: bool = False
    compile: bool = False
    parallel: Parallel = "none"

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise RecipeError(f"accumulate must be at least 1, got {self.accumulate}.")
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

    @property
    def place(self) -> torch.device:
        """The torch device."""
        if self.device == "auto":
            if not torch.cuda.is_available():
                return torch.device("cpu")
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        return torch.device(self.device)

    def autocast(self) -> Any:
        """Context in which models run in the chosen precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.place.type, dtype=_TYPES[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps fp16 gradients out of underflow; does nothing in other precisions."""
        return torch.amp.GradScaler(self.place.type, enabled=self.precision == "fp16")


@contextmanager
def process_group(machine: Machine) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for as long as the run lasts."""
    if machine.parallel == "none" or dist.is_initialized():
        yield
        return
    if "RANK" not in os.environ:
        raise RecipeError(
            f"parallel: {machine.parallel} needs several processes: start the run with "
            "'torchrun --nproc-per-node 2 -m tutelage run ...'."
        )
    dist.init_process_group("nccl" if machine.place.type == "cuda" else "gloo")
    try:
        yield
    finally:
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
    shared = torch.tensor(float(value), device=device)
    dist.all_reduce(shared)
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
    edges = [len(batch) * i // world() for i in range(world() + 1)]
    return batch[edges[rank()] : edges[rank() + 1]]
