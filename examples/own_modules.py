"""Your own torch modules and your own tensors: one call."""

import torch
from torch import nn

import tutelage
from tutelage.data import load

rows = load("fashion_mnist_small").train.take(torch.arange(1500)).batch(torch.arange(1500))
images, labels = rows.inputs, rows.targets  # (N, 1, 28, 28) in [0, 1], and class numbers


def student() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))


teacher = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
for _ in range(150):  # any teacher will do: this one is trained the way you always train
    optimizer.zero_grad()
    nn.functional.cross_entropy(teacher(images), labels).backward()
    optimizer.step()

result = tutelage.distill(
    teacher,
    student,
    (images, labels),
    seeds=[0, 1, 2],
    train={"epochs": 5, "batch_size": 64},
    export=False,
    quiet=True,
)
gain = result.report["comparison"]["gain"]
print(f"agreement with the teacher {result.report['comparison']['agreement']:.1%}")
print(
    f"gain over the student alone {gain['mean']:+.1%} ({gain['low']:+.1%} to {gain['high']:+.1%})"
)
