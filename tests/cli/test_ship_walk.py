"""docs/ship.md at small size: from a recipe to a service that goes back by itself, one command each."""

import io
import json
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import yaml

from tutelage.data import fashion_mnist_small
from tutelage.evaluation.costs import latency
from tutelage.evaluation.faces import html
from tutelage.recipe import promoting, reporting
from tutelage.recipe.compressing import measuring
from typed import typed

WINDOW = 60


def recipe(archive):
    """Rows of pixels through linear layers."""
    heal = {"epochs": 4, "learning_rate": 0.05}
    return {
        "recipe": 1,
        "name": "walk",
        "data": {"source": {"npz": {"path": str(archive), "validation": 400, "test": 400}}},
        "teacher": {"model": {"mlp": {"hidden": [64]}}, "train": {"epochs": 8}},
        "student": {"model": {"mlp": {"hidden": [32, 32]}}},
        "objective": [{"ce": {"weight": 0.5}}, {"kd": {"weight": 0.5, "temperature": 2}}],
        "train": {"epochs": 6, "batch_size": 32, "learning_rate": 0.05},
        "baseline": False,
        "report": "none",
        "compress": {
            "ways": {"narrow": [{"prune": {"share": 0.5, "heal": heal}}, "int8"]},
            "budget": {"accuracy_drop": 0.2},
        },
        "gates": {"accuracy_drop": 0.3},
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a recipe, a policy and images; plots and long timings are tested elsewhere."""
    train = fashion_mnist_small().train
    arrays = {"inputs": train.inputs[:2000, 0].numpy(), "targets": train.targets[:2000].numpy()}
    np.savez(tmp_path / "images.npz", **arrays)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(tmp_path / "images.npz")))
    policy = {"on": ["inputs"], "after": "2 consecutive windows", "do": "rollback"}
    policy |= {"name": "walk", "began": "whenever"}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump({"policy": policy}))
    few = latency.Effort(warmup=1, calls=10)
    monkeypatch.setattr(html, "page", lambda figures: "<!doctype html>")
    monkeypatch.setattr(reporting, "torch_latency", partial(latency.torch_latency, effort=few))
    monkeypatch.setattr(promoting, "onnx_latency", partial(latency.onnx_latency, effort=few))
    monkeypatch.setattr(measuring, "EFFORT", few)
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUTELAGE_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def served(*words):
    """A real server in a process of its own; its address."""
    command = [sys.executable, "-m", "tutelage", "serve", *words, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            found = json.loads(line)
            if found["event"] == "serving":
                break
        yield found["url"]
    finally:
        server.terminate()
        assert server.wait(20) == 0
        server.stderr.close()


def ask(url, images):
    """The version that answered, and its labels."""
    body = io.BytesIO()
    np.save(body, images)
    kind = {"content-type": "application/octet-stream"}
    asked = urllib.request.Request(f"{url}/v1/predict", body.getvalue(), kind)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        found = json.load(answer)
    return found["version"], [each["label"] for each in found["predictions"]]


def until(url, version):
    """Wait for the server to answer with another version."""
    image = np.zeros((1, 1, 28, 28), np.float32)
    for _ in range(100):
        if ask(url, image)[0] == version:
            return
        time.sleep(0.1)
    raise AssertionError(f"{version} never answered")


def test_from_a_recipe_to_a_rollback(place, monkeypatch):
    def done(*words):
        code, out, err = typed(monkeypatch, *words)
        assert code == 0, err
        return out

    assert "narrow is shipped" in done("run", "recipe.yaml", "--out", "run")
    shown = json.loads((place / "run" / "report.json").read_text())
    assert shown["compression"]["chosen"] == "narrow"
    assert any("On all 400 test examples student.onnx gives 100.00%" in n for n in shown["notes"])
    done("package", "run", "--out", "one.zip")
    assert "int8" in done("verify", "one.zip")
    one = re.search(r"package (\w+)", done("registry", "add", "walk", "one.zip"))[1]
    assert "none -> 1" in done("registry", "promote", "walk", "1")

    test = fashion_mnist_small().test.open("a test of shipping")
    images = test.inputs[: 8 * WINDOW].float().div(255).numpy()
    with served("walk", "--traffic", "traffic") as url:
        for start in range(0, 2 * WINDOW, 20):
            version, labels = ask(url, images[start : start + 20])
            assert (version, len(labels)) == (one, 20)

        done("package", "run", "--out", "two.zip", "--licence-student", "MIT")
        two = re.search(r"package (\w+)", done("registry", "add", "walk", "two.zip"))[1]
        assert "1 -> 2" in done("registry", "promote", "walk", "2")
        until(url, two)
        upside_down = images[2 * WINDOW :, :, ::-1].copy()
        for start in range(0, 4 * WINDOW, 20):
            assert ask(url, upside_down[start : start + 20])[0] == two

        time.sleep(2)  # the log writes about a second behind
        watch = ("monitor", "walk", "--traffic", "traffic", "--window", WINDOW)
        code, out, err = typed(monkeypatch, *watch, "--policy", "policy.yaml", "--html", "m.html")
        assert code == 1, err
        assert "rolled back: alarm of inputs" in out
        until(url, one)
    assert "<svg" in (place / "m.html").read_text()
    listed = done("registry", "show", "walk")
    assert re.search(r"rollback +production +2 +1 +alarm of inputs", listed)
