"""A small student who learns from frozen targets, seen again in every epoch.

A low-rank softmax regression on a teacher's hidden states: its logits over the most frequent
classes are to be those of the teacher's own head. Answers lie in a cache and stay as they are.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.naive.sparse import TopOnly
from torch import Tensor, nn

from tutelage.data import Loader, TensorSet
from tutelage.engine import Learner, fit
from tutelage.engine.optimizers import adamw
from tutelage.models import Frozen, Observed
from tutelage.objectives import AbstractObjective, SoftTarget
from tutelage.settings import Classic
from tutelage.teachers import Cached

BATCH, RANK = 256, 48


@dataclass(frozen=True)
class Arm:
    """What is kept of the teacher's answers, and what is learnt from it."""

    name: str
    form: Mapping[str, Any]
    objective: AbstractObjective


def _top(k: int, **more: Any) -> dict[str, Any]:
    return {"form": "top", "k": k, **more}


ARMS = (
    Arm("full", {"form": "dense"}, SoftTarget(1.0)),
    Arm("top 8 + tail", _top(8), SoftTarget(1.0)),
    Arm("top 32 + tail", _top(32), SoftTarget(1.0)),
    Arm("top 32 + tail, 8 bits", _top(32, precision="int8"), SoftTarget(1.0)),
    Arm("8 exact + 8 draws, frozen", _top(8, draws=8), SoftTarget(1.0)),
    Arm("top 16 + tail, 8 bits", _top(16, precision="int8"), SoftTarget(1.0)),
    Arm("top 8, both renormalised", _top(8), TopOnly("renormalised")),
    Arm("top 8, zeroed", _top(8), TopOnly("zeroed")),
    Arm("top 32, both renormalised", _top(32), TopOnly("renormalised")),
    Arm("top 32, zeroed", _top(32), TopOnly("zeroed")),
)


@dataclass(frozen=True)
class Words:
    """Positions of a text: the teacher's hidden states, the words that follow, and its head."""

    hidden: Tensor
    following: Tensor
    head: Tensor

    def first(self, classes: int) -> "Words":
        """Over the first classes only: of a byte-pair vocabulary the most frequent ones."""
        there = self.following < classes
        return Words(self.hidden[there], self.following[there], self.head[:classes])


def outcomes(words: Words, seeds: int, steps: int) -> Iterator[dict[str, Any]]:
    """One row an arm: KL from the teacher on positions held out, and confidence beyond accuracy."""
    held = len(words.hidden) // 5
    train, test = (
        words.hidden[held:],
        Words(words.hidden[:held], words.following[:held], words.head),
    )
    width, classes = words.head.shape[1], len(words.head)
    linear = nn.Linear(width, classes, bias=False)
    linear.weight.data.copy_(words.head)
    teacher = Frozen(Observed(linear))
    for arm in ARMS:
        found: list[tuple[float, float, float]] = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(width, RANK, bias=False), nn.Linear(RANK, classes))
            loader = Loader(TensorSet(train), BATCH, seed=seed)
            learner = Learner(Observed(model), adamw(learning_rate=0.005))
            with (
                tempfile.TemporaryDirectory() as folder,
                Cached(teacher, folder, loader, **arm.form) as kept,
            ):
                kept.fill(loader.in_order())
                fit(Classic(learner, kept, arm.objective), loader, steps=steps, seed=seed)
            found.append(_looked_at(model.eval(), linear, test))
        kl, gap, tail = (list(each) for each in zip(*found, strict=True))
        yield {
            "row": f"outcome: {arm.name}",
            "value": round(sum(kl) / seeds, 4),
            "unit": "KL from the teacher, held out",
            "runs": seeds,
            "each": [round(one, 4) for one in kl],
            "deviation": round(_deviation(kl), 4),
            "overconfidence": round(sum(gap) / seeds, 4),
            "tail_mass": round(sum(tail) / seeds, 4),
            "epochs": round(steps * BATCH / len(train), 1),
            "positions": len(train),
            "classes": classes,
        }


@torch.no_grad()
def _looked_at(student: nn.Module, teacher: nn.Module, test: Words) -> tuple[float, float, float]:
    """KL, confidence less accuracy on the words that follow, mass outside the teacher's top 8."""
    log_q, log_p = (each(test.hidden).log_softmax(-1) for each in (student, teacher))
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    sure, guess = log_q.exp().max(-1)
    gap = float(sure.mean() - (guess == test.following).float().mean())
    top = log_p.topk(8, dim=-1).indices
    return kl, gap, float(1 - log_q.gather(-1, top).exp().sum(-1).mean())


def _deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((each - mean) ** 2 for each in values) / max(len(values) - 1, 1))
