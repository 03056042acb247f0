"""Small recipes on real images, and the command line as tests call it."""

import copy
import hashlib
import io
from functools import cache

import numpy as np
import torch
import yaml
from rich.console import Console

from tutelage.data import fashion_mnist_small
from tutelage.recipe.run import run


@cache
def embedded():
    """The embedded training images, read once."""
    return fashion_mnist_small().train


def save_archive(path, count=600, **changes):
    """The first ``count`` training images of the embedded set, as many of each class."""
    train = embedded()
    rows = torch.cat([(train.targets == c).nonzero()[: count // 10, 0] for c in range(10)])
    arrays = {"inputs": train.inputs[rows, 0].numpy(), "targets": train.targets[rows].numpy()}
    np.savez(path, **{**arrays, **changes})


def small(archive):
    """Rows of pixels through linear layers: a whole run takes a few seconds."""
    return {
        "recipe": 1,
        "name": "small",
        "data": {"source": {"npz": {"path": str(archive), "validation": 100, "test": 100}}},
        "teacher": {"model": {"mlp": {"hidden": [32]}}, "train": {"epochs": 3}},
        "student": {"model": {"mlp": {"hidden": [8]}}},
        "objective": [{"ce": {"weight": 0.5}}, {"kd": {"weight": 0.5, "temperature": 2}}],
        "train": {"epochs": 2, "batch_size": 32, "learning_rate": 0.05},
        "export": False,
    }


def large(archive, weights=None):
    """Every section of a recipe in use: features, adapters, augmentation, tuning, gates."""
    return {
        "recipe": 1,
        "name": "large",
        "about": "all sections",
        "seeds": [3],
        "data": {
            "source": {"npz": {"path": str(archive), "validation": 100, "test": 100, "seed": 1}},
            "labels": 200,
        },
        "teacher": {
            "model": {"vgg": {"widths": [8, 16], "per_stage": 1}},
            "train": {"epochs": 8, "learning_rate": 0.1},
            "seed": 5,
            "labels": "all",
            "intake": {"mean": [0.286], "std": [0.353], "size": 20},
            **({"weights": str(weights), "expect": 0.5} if weights else {}),
        },
        "student": {"model": {"vgg": {"widths": [4, 8], "per_stage": 1}}, "intake": {"size": 20}},
        "objective": [
            {"ce": {"weight": 0.5, "label_smoothing": 0.1}},
            {"kd": {"weight": 0.5, "temperature": 2}},
            {"match": {"weight": 0.1, "pairs": {"layer1": "layer1"}, "adapter": "auto"}},
        ],
        "train": {
            "epochs": 8,
            "batch_size": 50,
            "learning_rate": 0.05,
            "optimizer": {"sgd": {"momentum": 0.9, "weight_decay": 0.0005}},
            "schedule": {"one_cycle": {"warmup": 0.3}},
            "augment": [{"shift": {"pixels": 2}}, "flip"],
            "clip": 5,
            "average": 0.5,
            "resolve": {"uncertainty": {"rate": 0.01}},
            "gradients_every": 100,
            "keep": "best",
            "patience": 8,
            "validate_every": 1,
            "precision": "fp32",
            "accumulate": 1,
            "channels_last": True,
            "compile": False,
            "workers": 0,
            "device": "cpu",
            "parallel": "none",
        },
        "baseline": {"epochs": 16, "patience": 16},
        "tune": {
            "seed": 99,
            "student": {"train.learning_rate": [0.05, 0.1]},
            "baseline": {"train.learning_rate": [0.1]},
        },
        "export": False,
        "gates": {"accuracy": 0.1},
    }


def changed(recipe, key, value):
    """A copy with another value at a dotted key; numbers lead into lists."""
    result = copy.deepcopy(recipe)
    *path, last = (int(step) if step.isdigit() else step for step in key.split("/"))
    place = result
    for step in path:
        place = place[step]
    place[last] = value
    return result


def without(recipe, key):
    """A copy without a dotted key."""
    result = copy.deepcopy(recipe)
    *path, last = (int(step) if step.isdigit() else step for step in key.split("/"))
    place = result
    for step in path:
        place = place[step]
    del place[last]
    return result


def quiet_run(recipe, out, **options):
    """A run from Python that prints nothing."""
    return run(recipe, out, console=Console(quiet=True), **options)


def said_by_run(recipe, out, **options):
    """What a run prints."""
    text = io.StringIO()
    run(recipe, out, console=Console(file=text, width=200), **options)
    return text.getvalue()


def write(path, recipe):
    """A recipe as a file."""
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def content(folder):
    """A hash of every file below a folder, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
