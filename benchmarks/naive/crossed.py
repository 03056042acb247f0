"""Across tokenizers, as they are commonly written: probabilities first, logarithms afterwards."""

from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.naive import Naive
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs


def uld(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    q = F.softmax(student.logits / objective.temperature, dim=-1)
    p = F.softmax(teacher.logits / objective.temperature, dim=-1)
    q = torch.sort(q, dim=-1, descending=True).values
    p = torch.sort(p, dim=-1, descending=True).values
    gap = p.shape[-1] - q.shape[-1]
    if gap > 0:
        q = F.pad(q, (0, gap), value=0.0)
    elif gap < 0:
        p = F.pad(p, (0, -gap), value=0.0)
    return torch.abs(p - q).sum(-1).mean()


def alm(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    # Published code keeps logarithms from 0 by an epsilon, and divides by the number of pieces.
    assert batch.targets is not None
    index = batch.targets.unsqueeze(-1)
    temperature = objective.temperature
    q = F.softmax(student.logits, dim=-1).gather(-1, index).squeeze(-1) ** (1 / temperature)
    p = F.softmax(teacher.logits, dim=-1).gather(-1, index).squeeze(-1) ** (1 / temperature)
    value = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
    return temperature * value.mean()


def overlap(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    shared = min(student.logits.shape[-1], teacher.logits.shape[-1])
    q = F.log_softmax(student.logits[..., :shared] / objective.temperature, dim=-1)
    p = F.softmax(teacher.logits[..., :shared] / objective.temperature, dim=-1)
    return F.kl_div(q, p, reduction="none").sum(-1).mean() * objective.temperature**2


NAIVE: dict[str, Naive] = {"uld": uld, "alm": alm, "overlap": overlap}
