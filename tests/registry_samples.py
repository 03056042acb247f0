"""Homes of registries whose tables were made once, and packages of one run that differ."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from package_samples import contents, folder
from tutelage.deployment.manifest import MANIFEST, SIGNATURE
from tutelage.deployment.package import pack
from tutelage.deployment.registry import Registry
from tutelage.deployment.registry.store import Store


@cache
def template():
    """A file with MLflow's tables; they take seconds to make."""
    path = Path(tempfile.mkdtemp()) / "registry.db"
    store = Store(f"sqlite:///{path}", path.parent / "artifacts")
    assert store.runs is not None
    store.close()
    return path


def home(place):
    place.mkdir()
    shutil.copyfile(template(), place / "registry.db")
    return place


@cache
def _filled():
    place = home(Path(tempfile.mkdtemp()) / "home")
    with Registry(place) as registry:
        for package in packages()[:4]:
            registry.add("digits", package)
    return place


def filled(place):
    """A home where four versions of digits were added, and none promoted."""
    return Path(shutil.copytree(_filled(), place))


@cache
def packages():
    """Five packages of one network: they differ in a word of the card."""
    place = Path(tempfile.mkdtemp())
    return [_packed(place / f"p{n}", {"MODEL_CARD.md": f"number {n}"}) for n in range(5)]


@cache
def worse():
    """A package whose network is blind to a part of its input."""
    place = Path(tempfile.mkdtemp())
    (place / "student.onnx").write_bytes(contents()["student.onnx"])
    model = onnx.load(place / "student.onnx")
    (found,) = [each for each in model.graph.initializer if len(each.dims) == 2 and 10 in each.dims]
    weights = numpy_helper.to_array(found).copy()
    turned = weights[:, ::-1] if weights.shape[1] == 10 else weights[::-1]
    found.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(turned), found.name))
    onnx.save(model, place / "student.onnx")
    return _packed(place / "worse", {"student.onnx": place / "student.onnx"})


def _packed(out, changes):
    place = folder(out.with_name(f"{out.name}-files"), contents())
    files = {path.name: path for path in place.iterdir()}
    del files[MANIFEST]
    files.pop(SIGNATURE, None)
    run = json.loads(contents()[MANIFEST])["run"]
    pack({**files, **changes}, out, run=run, version="0.1.0", date="2026-01-31")
    return out


def forked(work, *given):
    """What a process of its own ended with, after ``work(*given)``; it knows all imports."""
    packages(), template()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forking with threads: they are asleep
        process = multiprocessing.get_context("fork").Process(target=work, args=given)
        process.start()
    return process


def ended(process):
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def lived(work, place, *given):
    """What ``work`` on a folder ended with; begun anew where forking caught another thread's lock."""
    before = place.with_name(f"{place.name}-before")
    if place.exists():
        shutil.copytree(place, before)
    for _ in range(3):
        process = forked(work, place, *given)
        process.join(40)
        if process.exitcode is not None:
            return process.exitcode
        process.kill()
        process.join()
        shutil.rmtree(place, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, place)
    raise AssertionError("three children hung")


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def states(place, name="digits"):
    """All that people may ask of a registry."""
    with Registry(place) as registry:
        return (
            [version.as_dict() for version in registry.versions(name)],
            [event.as_dict() for event in registry.history(name)],
        )
