"""What `fit` costs: a step with a live teacher through it, against a loop written by hand.

Both do the same arithmetic on the same models and the same data: the teacher answers without a
gradient, cross entropy and tempered KL divergence, backward, SGD with momentum, a cosine schedule.
Pairs of stretches are timed in turn in one process, so that a busy machine slows both alike; the
ratio is the median over pairs of (time through fit) / (time by hand). What happens once a run
(probe, checksums of the teacher) is outside the stretches.

    python benchmarks/overhead.py [--quick] [--record FILE]
"""

import copy
import math
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.engine import Hook, Learner, Machine, cosine, fit, sgd
from tutelage.models import build_model
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.objectives.response.soft_target import SoftTarget
from tutelage.settings import Classic

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shared import arguments, stamp, told

RATE, TEMPERATURE = 0.01, 4.0


@dataclass(frozen=True)
class Row:
    """One pair of networks."""

    name: str
    student: object
    teacher: object
    shape: tuple[int, ...]
    batch: int
    steps: int


ROWS = (
    Row(
        "lenet student, vgg teacher, batch 128",
        "lenet",
        {"vgg": {"widths": [16, 32, 64]}},
        (1, 28, 28),
        128,
        8,
    ),
    Row(
        "worst case: mlp of 16 units for both, batch 32",
        {"mlp": {"hidden": [16]}},
        {"mlp": {"hidden": [16]}},
        (20,),
        32,
        150,
    ),
)


class Clock(Hook):
    """When each step was over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def stepped(self, step: int) -> None:
        """Look at the clock."""
        self.times.append(time.perf_counter())


def through_fit(student: nn.Module, teacher: nn.Module, data: list[Batch], steps: int) -> float:
    """Seconds for each step after the first."""
    learner = Learner(Observed(student), sgd(learning_rate=RATE), schedule=cosine())
    objective = 0.5 * CrossEntropy() + 0.5 * SoftTarget(TEMPERATURE)
    clock = Clock()
    fit(
        Classic(learner, Frozen(Observed(teacher)), objective),
        data,
        steps=steps,
        machine=Machine("cpu"),
        hooks=[clock],
    )
    return (clock.times[-1] - clock.times[0]) / (steps - 1)


def by_hand(student: nn.Module, teacher: nn.Module, data: list[Batch], steps: int) -> float:
    """Seconds for each step after the first."""
    teacher.eval().requires_grad_(False)
    student.train()
    optimizer = torch.optim.SGD(
        student.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    times = []
    for step in range(steps):
        batch = data[step % len(data)]
        assert isinstance(batch.inputs, Tensor)
        assert batch.targets is not None
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            told = teacher(batch.inputs)
        logits = student(batch.inputs)
        hard = F.cross_entropy(logits, batch.targets)
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, -1),
            F.log_softmax(told / TEMPERATURE, -1),
            reduction="batchmean",
            log_target=True,
        )
        (0.5 * hard + 0.5 * TEMPERATURE**2 * soft).backward()
        optimizer.step()
        times.append(time.perf_counter())
    return (times[-1] - times[0]) / (steps - 1)


def measure(row: Row, *, pairs: int, seed: int) -> Mapping[str, object]:
    """One row of the result."""
    torch.manual_seed(seed)
    student = build_model(row.student, classes=10, shape=row.shape)  # type: ignore[arg-type]
    teacher = build_model(row.teacher, classes=10, shape=row.shape)  # type: ignore[arg-type]
    data = [
        Batch(torch.rand(row.batch, *row.shape), torch.randint(10, (row.batch,)), None, None)
        for _ in range(8)
    ]
    ends, ours, theirs = [], [], []
    for run in (through_fit, by_hand):  # warm, and see that both do the same
        mine = copy.deepcopy(student)
        run(mine, copy.deepcopy(teacher), data, row.steps)
        ends.append(torch.cat([p.detach().flatten() for p in mine.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)
    for pair in range(pairs):
        order = [(through_fit, ours), (by_hand, theirs)]
        for run, times in order if pair % 2 else reversed(order):
            times.append(run(copy.deepcopy(student), copy.deepcopy(teacher), data, row.steps))
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "benchmark": "overhead",
        "row": row.name,
        "ratio": round(statistics.median(ratios), 4),
        "unit": "x",
        "runs": pairs,
        "quartiles": [round(ratios[pairs // 4], 4), round(ratios[-1 - pairs // 4], 4)],
        "fit_ms": round(1e3 * statistics.median(ours), 3),
        "hand_ms": round(1e3 * statistics.median(theirs), 3),
        "steps_each": row.steps,
        "seed": seed,
        "threads": torch.get_num_threads(),
        **stamp(),
    }


def main() -> None:
    """Measure, print, and keep where asked."""
    chosen = arguments(__doc__)
    rows = [measure(row, pairs=15 if chosen.quick else 61, seed=chosen.seed) for row in ROWS]
    told(rows, chosen.record)


if __name__ == "__main__":
    main()
