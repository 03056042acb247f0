"""What two processes learn in each way of teaching: ``torchrun settings_apart.py FOLDER``."""

import itertools
import os
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)

from settings_online import MOMENTUM, batches, branched, learner, net  # noqa: E402

from tutelage.core.batch import Batch  # noqa: E402
from tutelage.engine import Machine, fit  # noqa: E402
from tutelage.models import build_model  # noqa: E402
from tutelage.models.observed import Frozen, Observed  # noqa: E402
from tutelage.objectives import CrossEntropy, SoftTarget  # noqa: E402
from tutelage.settings import (  # noqa: E402
    Byot,
    ClassWise,
    Collaborative,
    Consistency,
    DenselyGuided,
    LastBatch,
    MeanTeacher,
    MultiExit,
    Mutual,
    NoisyStudent,
    OKDDip,
    OneBranches,
    PeerCollaborative,
    ProgressiveSelf,
    Together,
)

KD = CrossEntropy() + SoftTarget(2.0)


def peers():
    return [learner(net(seed=k), MOMENTUM) for k in range(2)]


def exits():
    torch.manual_seed(0)
    spec = {"with_exits": {"model": {"mlp": {"hidden": [6, 5]}}, "exits": {"layer1": None}}}
    return learner(build_model(spec, classes=3, shape=(8,)), MOMENTUM)


def teacher(seed=9):
    return Frozen(Observed(net(10, seed)))


def overlapping():
    """Each batch begins with the examples of the one before."""
    made = batches(n=4, size=6)
    return [joined(before, now) for before, now in itertools.pairwise(made)]


def joined(one, two):
    parts = zip(*((b.inputs, b.targets, b.ids) for b in (one, two)), strict=True)
    inputs, targets, ids = (torch.cat(part) for part in parts)
    return Batch(inputs, targets, ids=ids)


WAYS = {
    "mutual": lambda: (Mutual(peers(), KD), 1),
    "mutual, joint": lambda: (Mutual(peers(), KD, joint=True), 1),
    "kdcl": lambda: (Collaborative(peers()), 1),
    "together": lambda: (Together(peers(), teacher(), KD), 1),
    "one": lambda: (OneBranches(branched(optimizer=MOMENTUM)), 1),
    "okddip": lambda: (OKDDip(branched(optimizer=MOMENTUM), factor=2), 1),
    "pcl": lambda: (PeerCollaborative(branched(optimizer=MOMENTUM), decay=0.9), 1),
    "class_wise, pairs": lambda: (ClassWise(learner(net(), MOMENTUM), KD), 2),
    "last_batch": lambda: (LastBatch(learner(net(), MOMENTUM), KD), 1),
    "progressive_self": lambda: (
        ProgressiveSelf(learner(net(), MOMENTUM), CrossEntropy(), examples=400, epochs=4),
        1,
    ),
    "mean_teacher": lambda: (MeanTeacher(learner(net(), MOMENTUM), KD, decay=0.9), 1),
    "byot": lambda: (
        Byot(learner(net(), MOMENTUM), CrossEntropy() + SoftTarget(3.0), exits=["0"], deepest="1"),
        1,
    ),
    "multi_exit": lambda: (MultiExit(exits(), CrossEntropy()), 1),
    "noisy_student": lambda: (NoisyStudent(learner(net(), MOMENTUM), teacher()), 2),
    "consistency": lambda: (
        Consistency(learner(net(), MOMENTUM), CrossEntropy(), threshold=0.4),
        2,
    ),
    "densely_guided": lambda: (
        DenselyGuided(
            learner(net(), MOMENTUM), [teacher(1), teacher(2)], CrossEntropy(), SoftTarget(2.0)
        ),
        1,
    ),
}


NORMALISED = {"one", "byot"}
"""BatchNorm in what they add: processes normalise by their own shares, as everywhere."""


def learnt(name, machine):
    """The weights of all who learned, after two epochs; or the line that refused it."""
    torch.manual_seed(0)
    setting, versions = WAYS[name]()
    owners = getattr(setting, "peers", None) or getattr(setting, "students", None)
    try:
        items = overlapping() if name == "last_batch" else batches(versions=versions)
        fit(setting, items, steps=6, machine=machine)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    found = owners or [setting.student]
    return {
        f"{k}.{key}": value
        for k, owner in enumerate(found)
        for key, value in owner.model.state_dict().items()
    }


if __name__ == "__main__":
    shared = {name: learnt(name, Machine("cpu", parallel="ddp")) for name in WAYS}
    if os.environ["RANK"] == "0":
        torch.save(shared, Path(sys.argv[1]) / "shared.pt")
