"""One small finished run, made once a process, and packages of it to spoil."""

import hashlib
import json
import tempfile
import zipfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tutelage.data import fashion_mnist_small
from tutelage.evaluation.costs.latency import Effort, torch_latency
from tutelage.evaluation.faces import html
from tutelage.recipe import reporting
from tutelage.recipe.packaging import package_run
from tutelage.recipe.run import run

RECIPE = {
    "recipe": 1,
    "name": "small",
    "teacher": {"model": {"mlp": {"hidden": [16]}}, "train": {"epochs": 1}},
    "student": {"model": {"mlp": {"hidden": [8]}}},
    "objective": [{"ce": {"weight": 0.5}}, {"kd": {"weight": 0.5, "temperature": 2}}],
    "train": {"epochs": 3, "batch_size": 32, "learning_rate": 0.05},
    "baseline": None,
    "calibrate": True,
    "report": "none",
    "gates": {"accuracy_drop": 0.9},
}
SECRET = bytes(range(64))


@cache
def finished_run():
    """The folder of a real run on 600 images; treat it as read-only."""
    place = Path(tempfile.mkdtemp())
    train = fashion_mnist_small().train
    rows = torch.cat([(train.targets == c).nonzero()[:60, 0] for c in range(10)])
    arrays = {"inputs": train.inputs[rows, 0].numpy(), "targets": train.targets[rows].numpy()}
    np.savez(place / "images.npz", **arrays)
    source = {"npz": {"path": str(place / "images.npz"), "validation": 100, "test": 100}}
    with pytest.MonkeyPatch.context() as patch:  # most of the time, and tested where it is made
        patch.setattr(html, "page", lambda figures: "<!doctype html>")
        patch.setattr(reporting, "torch_latency", partial(torch_latency, effort=Effort(1, 5)))
        _run(place, source)
    return place / "run"


def _run(place, source):
    run(
        {**RECIPE, "data": {"source": source}},
        place / "run",
        console=Console(quiet=True),
        command=["tutelage"],
    )


@cache
def _packed(signed):
    place = Path(tempfile.mkdtemp())
    (place / "key").write_bytes(SECRET)
    package_run(finished_run(), place / "p.zip", key=place / "key" if signed else None)
    with zipfile.ZipFile(place / "p.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def contents(signed=False):
    """Files of a good package, to be changed."""
    return dict(_packed(signed))


def archive(path, files):
    """A zip of files, or of pairs where a name comes twice."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items() if isinstance(files, dict) else files:
            made.writestr(name, content)
    return path


def folder(path, files):
    """The same as a folder."""
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def listed_anew(files):
    """A manifest that agrees with changed files, as a forger without the key would write it."""
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
        if name not in ("manifest.json", "signature.json")
    }
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def changed(name, content):
    """A good package with one file replaced, and a list that does not know it."""
    return {**contents(), name: content}
