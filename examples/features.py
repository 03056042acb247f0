"""Features by path, through adapters made for their shapes, beside soft targets; on bare `fit`."""

import torch

from tutelage import Frozen, Learner, Observed, fit
from tutelage.data import Loader, load
from tutelage.engine import Record, sgd
from tutelage.models import build_model
from tutelage.objectives import CrossEntropy, Match, SoftTarget
from tutelage.settings import Classic

torch.manual_seed(0)
images = load("fashion_mnist_small").train.take(torch.arange(1024))
shape, classes = images.example_shape, len(images.classes)
big = build_model({"vgg": {"widths": [16, 32]}}, classes=classes, shape=shape)
small = build_model({"vgg": {"widths": [8, 16], "per_stage": 1}}, classes=classes, shape=shape)

# A student's path to a teacher's; the adapter (a 1x1 convolution here) trains along and is not
# part of the student. 'relu()#2', 'layer1:in' or any module's path would do as well.
objective = CrossEntropy() + SoftTarget(2.0) + 5.0 * Match({"layer2": "layer2"})
student = Learner(Observed(small), sgd(learning_rate=0.02), clip=1.0)
record = Record()
fit(
    Classic(student, Frozen(Observed(big)), objective),
    Loader(images, 64, seed=0),
    steps=32,
    hooks=[record],
)
first, last = record.updates[0][2], record.updates[-1][2]
print({name: f"{first[name]:.3f} -> {last[name]:.3f}" for name in first})
assert last["match"] < first["match"]
