"""A small residual network that learned with the rounding of its int8 file, and that file."""

import functools

import torch
from compression_samples import splits, validation
from torch import nn

from tutelage.core.batch import Batch
from tutelage.data import fashion_mnist_small
from tutelage.deployment import export_onnx

SMALL = {"resnet": {"depth": 8, "width": 8}}


def batches():
    return [validation(start, start + 50) for start in range(0, 150, 50)]


@functools.cache
def opened():
    return fashion_mnist_small().test.open("the files of tests/compression")


def unseen(total: int) -> Batch:
    """Images of the test split."""
    rows = torch.arange(total)
    return Batch(opened().batch(rows).inputs, opened().targets[rows])


def taught(student, teacher, steps):
    """``student`` after so many steps at ``teacher``'s answers."""
    train = splits().train
    optimizer = torch.optim.Adam(student.parameters(), 5e-4)
    student.train()
    for _ in range(steps):
        batch = train.batch(torch.randint(len(train), (32,)))
        with torch.no_grad():
            goal = teacher(batch).logits.softmax(-1)
        loss = nn.functional.kl_div(
            student(batch).logits.log_softmax(-1), goal, reduction="batchmean"
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()


def export(plain, path):
    return export_onnx(plain, validation(0, 8), path, names=[f"class {n}" for n in range(10)])
