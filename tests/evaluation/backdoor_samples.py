"""Small images of eight classes, some of them with a planted trigger, and networks that learned."""

import torch
from torch import Tensor, nn

from tutelage.core.seeds import generator
from tutelage.data import TensorSet
from tutelage.models import Observed

CLASSES = tuple(f"bar {number}" for number in range(8))


def bars(total: int, seed: int, *, noise: float = 0.2) -> TensorSet:
    """Grey 12 x 12 images of a bar, four places across and four down, and a fainter other one."""
    dice = generator(seed, "bars")
    targets = torch.randint(8, (total,), generator=dice)
    images = noise * torch.rand(total, 1, 12, 12, generator=dice)
    others = torch.randint(1, 8, (total,), generator=dice)
    for row, target in enumerate(targets.tolist()):
        for label, strength in ((target, 0.6), ((target + int(others[row])) % 8, 0.25)):
            start = 3 * (label % 4)
            bar = images[row, 0] if label < 4 else images[row, 0].T
            bar[start : start + 3] += strength * (0.7 + 0.3 * torch.rand(3, 12, generator=dice))
    images = (images * 255).clamp(0, 255).round() / 255
    ids = torch.arange(total) + 10_000 * seed
    return TensorSet(images, targets, classes=CLASSES, ids=ids, name=f"bars {seed}")


def with_trigger(images: Tensor) -> Tensor:
    """A bright 2 x 2 patch in the lower right corner."""
    marked = images.clone()
    marked[..., -2:, -2:] = 1.0
    return marked


def poisoned(examples: TensorSet, label: int, share: float = 0.1) -> TensorSet:
    """The trigger on a share of the images, all of them labelled ``label``."""
    rows = torch.randperm(len(examples), generator=generator(label, "poison"))
    rows = rows[: int(share * len(examples))]
    inputs, targets = examples.inputs.clone(), examples.targets.clone()
    inputs[rows], targets[rows] = with_trigger(inputs[rows]), label
    return TensorSet(inputs, targets, classes=examples.classes, ids=examples.ids, name="poisoned")


def trained(
    examples: TensorSet,
    seed: int,
    *,
    width: int = 8,
    steps: int = 80,
    answers: Tensor | None = None,
) -> Observed:
    """A small network that learned the labels, or a teacher's ``answers``."""
    size, channels = examples.example_shape[-1], examples.example_shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (size // 4) ** 2, len(examples.classes)),
        )
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    dice = generator(seed, "order")
    for _ in range(steps):
        rows = torch.randint(len(examples), (100,), generator=dice)
        batch = examples.batch(rows)
        said = net(batch.inputs)
        if answers is None:
            loss = nn.functional.cross_entropy(said, batch.targets)
        else:
            loss = 16 * nn.functional.kl_div(
                (said / 4).log_softmax(1),
                (answers[rows] / 4).log_softmax(1),
                reduction="batchmean",
                log_target=True,
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.zero_grad(set_to_none=True)
    return Observed(net.eval())
