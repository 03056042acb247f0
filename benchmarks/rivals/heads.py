"""Heads and their losses that `lm_head.py` measures: ours, plain code, trl's and liger's."""

import contextlib
import importlib
import importlib.util
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.objectives import linear_divergence

PACKAGES = ("trl==1.16.0", "liger-kernel==0.8.5")


@dataclass(frozen=True)
class Case:
    """One set of tensors: N units, V classes, H wide, a student ``gap`` away in its logits."""

    units: int
    classes: int
    divergence: str
    gap: float = 0.5
    width: int = 576

    @property
    def name(self) -> str:
        """As a row says it."""
        return f"N={self.units} V={self.classes} H={self.width} {self.divergence}"


BETAS = {"forward": 0.0, "js": 0.5, "reverse": 1.0}  # as trl and liger count them


@dataclass(frozen=True)
class Tensors:
    """Student's states and head, and the teacher's."""

    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor


def tensors(case: Case, dtype: torch.dtype) -> Tensors:
    """The same numbers for every way."""
    source = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source)

    scales = noise(case.width).exp()
    states = noise(case.units, case.width) * scales
    head = noise(case.classes, case.width)
    head *= 3.5 / float((scales.square().sum()).sqrt())
    near = states + noise(case.units, case.width) * scales * (case.gap / 3.5 / 2**0.5)
    moved = noise(case.classes, case.width).mul_(float(head.std()) * case.gap / 3.5 / 2**0.5)
    moved += head
    ours = near.to(dtype).requires_grad_(), moved.to(dtype).requires_grad_()
    return Tensors(*ours, states.to(dtype), head.to(dtype))


def one_pass(t: Tensors, divergence: str) -> Tensor:
    return linear_divergence(
        t.hidden, t.weight, t.teacher_hidden, t.teacher_weight, divergence=divergence
    )


def full_logits(t: Tensors, divergence: str) -> Tensor:
    """As it is written by hand, in fp32 at least."""
    ours, theirs = t.hidden @ t.weight.t(), t.teacher_hidden @ t.teacher_weight.t()
    if ours.dtype != torch.float64:
        ours, theirs = ours.float(), theirs.float()
    log_q, log_p = F.log_softmax(ours, -1), F.log_softmax(theirs, -1)
    if divergence == "js":
        log_m = torch.logaddexp(log_q, log_p) - torch.log(torch.tensor(2.0))
        both = [F.kl_div(log_m, log, log_target=True, reduction="sum") for log in (log_q, log_p)]
        return sum(both, torch.zeros(())) / 2 / len(log_q)
    first, second = (log_q, log_p) if divergence == "forward" else (log_p, log_q)
    return F.kl_div(first, second, log_target=True, reduction="batchmean")


def trl(t: Tensors, divergence: str) -> Tensor:
    function = trl_kernel().ChunkedDivergenceFunction
    answer = function.apply(
        t.hidden, t.weight, None, t.teacher_hidden, t.teacher_weight, None, BETAS[divergence]
    )
    return answer[0].mean()


def trl_kernel() -> Any:
    """The module of the kernel, without the trainers around it."""
    if "trl.kernels.chunked_divergence" in sys.modules:
        return sys.modules["trl.kernels.chunked_divergence"]
    found = importlib.util.find_spec("trl")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'trl'")
    folder = Path(found.submodule_search_locations[0]) / "kernels"

    def stands_for(name: str, **held: Any) -> None:
        module = types.ModuleType(name)
        module.__dict__.update(held, __path__=[])
        sys.modules.setdefault(name, module)

    stands_for("transformers")
    stands_for("transformers.utils", is_triton_available=lambda: False)
    stands_for("trl")
    stands_for("trl.trainer")
    stands_for(
        "trl.trainer.utils", maybe_gather_lm_head_ctx=lambda *given: contextlib.nullcontext()
    )
    stands_for("trl.kernels")
    sys.modules["trl.kernels"].__path__ = [str(folder)]
    return importlib.import_module("trl.kernels.chunked_divergence")


def liger(t: Tensors, divergence: str) -> Tensor:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(0.0, 1.0, beta=BETAS[divergence], compiled=False)
    labels = torch.zeros(len(t.hidden), dtype=torch.int64)
    found: Tensor = loss(t.hidden, t.weight, t.teacher_hidden, t.teacher_weight, labels)
    return found


WAY: dict[str, Callable[[Tensors, str], Tensor]] = {
    "one_pass": one_pass,
    "full_logits": full_logits,
    "trl": trl,
    "liger": liger,
}


def prepared(folder: Path) -> Path:
    """The folder with both packages in it, installed by pip where they are missing."""
    if not (folder / "trl").exists() or not (folder / "liger_kernel").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run([*install, "--target", str(folder), *PACKAGES], check=False)
        if done.returncode:
            print(f"{' and '.join(PACKAGES)} cannot be installed: their rows say so.")
    return folder
