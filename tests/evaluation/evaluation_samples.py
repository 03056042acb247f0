"""Predictions, sets and reports that several tests of this room look at."""

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.seeds import generator
from tutelage.evaluation import DataFacts, Latency, Measured, Predictions, Report, SeedResult

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
