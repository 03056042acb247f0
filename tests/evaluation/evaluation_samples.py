"""Predictions, sets and reports that several tests of this room look at."""

import copy
import functools

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.seeds import generator
from tutelage.data import Groups, TensorSet
from tutelage.evaluation import (
    DataFacts,
    Latency,
    Measured,
    Predictions,
    Report,
    SeedResult,
    predict,
)
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed

CLASSES = ("shirt", "coat", "<b>bag</b>", "boot")


class Set:
    """A labelled set in memory, with no more than the protocol asks for."""

    def __init__(self, inputs: Tensor, targets: Tensor | None, classes=CLASSES):
        self.inputs, self.targets, self.classes = inputs, targets, classes
        self.ids = torch.arange(len(inputs)) + 100

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(self.inputs[rows], ids=self.ids[rows])


def answers(
    share: float, *, seed: int = 0, total: int = 800, sure: float = 4.0, classes=CLASSES
) -> Predictions:
    """Answers right for about this share of the examples."""
    dice = generator(seed, "answers")
    targets = torch.arange(total) % len(classes)
    wrong = torch.rand(total, generator=dice) >= share
    said = torch.where(wrong, (targets + 1) % len(classes), targets)
    logits = torch.randn(total, len(classes), generator=dice) * 0.1
    logits[torch.arange(total), said] += sure
    return Predictions(logits, targets, torch.arange(total), classes)


def latency(p50: float = 0.5, backend: str = "onnxruntime") -> Latency:
    return Latency(p50, 2 * p50, backend, 1, 1, 300)


def measured(predictions: Predictions, parameters: int = 1000, p50: float = 0.5) -> Measured:
    return Measured(
        predictions,
        parameters,
        4 * parameters,
        10 * parameters,
        [latency(p50), latency(3 * p50, "torch")],
        name="<net>",
    )


def curve(end: float) -> list[dict[str, float]]:
    steps = [{"step": i, "epoch": i / 10, "ce": 2 / (i + 1)} for i in range(1, 40)]
    return [*steps, {"step": 40, "epoch": 4.0, "validation_accuracy": end}]


def report(**changes) -> Report:
    """A report with everything in it; pass what should differ."""
    usual = {
        "recipe": {"recipe": 1, "name": "a <script>alert(1)</script> & co"},
        "seed": 0,
        "teacher": measured(answers(0.95, seed=1), 50_000, 5.0),
        "student": measured(answers(0.90, seed=2)),
        "baseline": measured(answers(0.80, seed=3)),
        "data": DataFacts(
            "sample", 5000, 500, 800, labelled=300, chosen=("epoch", "learning rate")
        ),
        "seeds": [SeedResult(0, 0.90, 0.80), SeedResult(1, 0.91, 0.80), SeedResult(2, 0.92, 0.81)],
        "gates": {"accuracy_drop": 0.2, "p99_ms": 5},
        "environment": {"date": "2026-01-31", "versions": {"torch": "2.13.0"}},
        "curves": {"student": curve(0.9), "baseline": curve(0.8), "teacher": curve(0.95)},
        "command": "tutelage run recipes/sample.yaml",
    }
    return Report(**{**usual, **changes})


def resnet20() -> nn.Module:
    """The ResNet-20 of He et al. (2015) for 32x32 images, with 1x1 convolutions as shortcuts."""

    class Block(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int):
            super().__init__()
            self.one = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
            self.two = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
            self.short = (
                nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1, stride, bias=False)
            )

        def forward(self, x: Tensor) -> Tensor:
            y = self.norms[0](self.one(x)).relu()
            return (self.norms[1](self.two(y)) + self.short(x)).relu()

    stages = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2
    stages += [(32, 64, 2)] + [(64, 64, 1)] * 2
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(Block(*stage) for stage in stages),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def stripes(total: int, seed: int, *, classes: int = 3, noise: float = 0.25) -> TensorSet:
    """Grey 12 x 12 images, a class a stripe's place, under noise; ids from 1,000 times the seed."""
    dice = generator(seed, "stripes")
    targets = torch.arange(total) % classes
    images = noise * torch.rand(total, 1, 12, 12, generator=dice)
    for row, target in enumerate(targets.tolist()):
        images[row, 0, 4 * target : 4 * target + 3] += 0.6
    images = images + noise * torch.randn(images.shape, generator=dice)
    names = tuple(f"stripe {number}" for number in range(classes))
    ids = torch.arange(total) + 1000 * seed
    return TensorSet(images.clamp(0, 1), targets, classes=names, ids=ids, name=f"stripes {seed}")


def learned(examples: TensorSet, width: int, seed: int, steps: int = 40) -> Observed:
    """A small convolutional network that has learned the stripes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(9 * width, len(examples.classes)),
        )
    batch = examples.batch(torch.arange(len(examples)))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch.inputs), batch.targets).backward()
        optimizer.step()
    net.zero_grad(set_to_none=True)
    return Observed(net.eval())


@functools.cache
def _models() -> dict[str, Observed]:
    train = stripes(96, 1)
    return {
        "teacher": learned(train, 8, 0),
        "student": learned(train, 4, 1),
        "baseline": learned(train, 4, 2),
        "control": learned(train.with_targets(train.targets.roll(1)), 4, 3, steps=5),
    }


def subjects(**changes) -> Subjects:
    """Small trained models with everything a part may ask for; pass what should differ."""
    test = stripes(90, 3)
    sides = Groups("side", ("left", "right"), test.ids, torch.arange(90) // 3 % 2)
    models = {role: copy.deepcopy(model) for role, model in _models().items()}
    dice = generator(0, "grey")
    grey = TensorSet(torch.rand(60, 1, 12, 12, generator=dice), classes=test.classes, name="grey")
    usual = {
        "models": models,
        "test": test,
        "validation": stripes(60, 2),
        "train": stripes(96, 1),
        "taught": stripes(96, 1),
        "outside": {"grey": grey},
        "groups": {"side": sides},
        "seeds": {
            "student": [predict(learned(stripes(96, 1), 4, 11, 10), test)],
            "baseline": [predict(learned(stripes(96, 1), 4, 12, 10), test)],
        },
    }
    return Subjects(**{**usual, **changes})
