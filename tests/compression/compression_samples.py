"""A small network that learned Fashion-MNIST for seconds, and its file."""

import functools

import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.data import fashion_mnist_small
from tutelage.deployment import export_onnx
from tutelage.models import Observed, build_model


@functools.cache
def splits():
    return fashion_mnist_small()


def validation(first: int, last: int) -> Batch:
    rows = torch.arange(first, last)
    found = splits().validation
    return Batch(found.batch(rows).inputs, found.targets[rows])


def drawn(what) -> Observed:
    """A network as drawn, with statistics of normalisations that are not those of the start."""
    torch.manual_seed(0)
    model = build_model(what, classes=10, shape=(1, 28, 28))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.3, 1.5)
    return Observed(model.eval())


def trained(what, steps=60) -> Observed:
    """A network that has seen ``64 * steps`` training images."""
    torch.manual_seed(0)
    model = build_model(what, classes=10, shape=(1, 28, 28))
    train = splits().train
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(train), (64,))
        loss = nn.functional.cross_entropy(model(train.batch(rows).inputs), train.targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Observed(model.eval())


def shipped(model: Observed, path):
    names = [f"class {number}" for number in range(10)]
    export_onnx(model, validation(0, 8), path, names=names)
    return path
