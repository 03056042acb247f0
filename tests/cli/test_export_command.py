"""tutelage export: words that are wrong, files that are there, and a run that becomes a file."""

import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from tutelage.data.fashion_small import embedded
from tutelage.evaluation.costs import bench
from tutelage.recipe.run import run
from typed import typed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run; its ONNX file is empty, for here nobody opens it."""
    place = tmp_path_factory.mktemp("export")
    train, _ = embedded()
    rows = np.concatenate([np.flatnonzero(train.targets.numpy() == c)[:40] for c in range(10)])
    images, targets = train.inputs[rows, 0].numpy(), train.targets[rows].numpy()
    np.savez(place / "images.npz", inputs=images, targets=targets)
    recipe = {
        "recipe": 1,
        "name": "small",
        "data": {"source": {"npz": {"path": str(place / "images.npz"), "test": 50}}},
        "teacher": {"model": {"mlp": {"hidden": [16]}}, "train": {"epochs": 1}},
        "student": {"model": {"mlp": {"hidden": [8]}}},
        "objective": ["ce", "kd"],
        "train": {"epochs": 1, "batch_size": 32, "learning_rate": 0.05},
        "baseline": None,
        "report": "none",
        "export": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
        run(recipe, place / "a", console=Console(quiet=True))
    (place / "a" / "student.onnx").touch()
    return place / "a"


def test_a_run_becomes_a_program_and_is_measured_beside_its_student(
    finished, tmp_path, monkeypatch
):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left = tmp_path / f".student.pte.{child.pid}.tmp"  # of another format that was killed
    left.mkdir()
    words = ("export", finished, "--to", "torch", "--out", tmp_path)
    code, out, err = typed(monkeypatch, *words, "--json")
    assert (code, err) == (0, "")
    (made,) = json.loads(out)
    assert made["equal_top1"] == 1
    assert made["max_difference"] < 1e-4
    file = tmp_path / "student.pt2"
    assert list(tmp_path.iterdir()) == [file]
    assert made["bytes"] == file.stat().st_size
    code, out, err = typed(monkeypatch, *words)
    assert (code, out) == (2, "")
    assert "is there already: choose another --out, or give --force." in err
    cold = {"import_ms": 1.0, "load_ms": 1.0, "first_ms": 1.0, "memory_bytes": 1}
    monkeypatch.setattr(bench, "cold", lambda start, name, asked: cold)
    code, out, err = typed(
        monkeypatch, "bench", f"{finished}:student", file, "--seconds", "0.3", "--json"
    )
    assert (code, err) == (0, "")
    student, program = json.loads(out)["models"]
    assert program["format"] == "torch_program"
    assert program["parameters"] >= student["parameters"]
    assert program["ratios"]["cold"]["load_ms"] is None  # not alike
    assert {row["backend"] for row in program["warm"]} == {"torch_program"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "package"),
    [
        ("torch", "student.pt2", "torch"),
        ("openvino", "student.xml", "openvino"),
        ("openvino_int8", "student-int8.xml", "nncf"),
        ("executorch", "student.pte", "executorch"),
    ],
)
def test_every_format_is_made_and_measured_in_fresh_processes(
    name, file, package, finished, tmp_path, monkeypatch
):
    pytest.importorskip(package)
    code, out, err = typed(monkeypatch, "export", finished, "--to", name, "--out", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / file} ({name}): ")
    code, out, err = typed(
        monkeypatch, "bench", tmp_path / file, "--seconds", "0.3", "--preset", "phone", "--json"
    )
    assert (code, err) == (0, "")
    (found,) = json.loads(out)["models"]
    assert found["cold"]["load_ms"] > 0
    assert found["warm"][0]["p50"] > 0
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN", "--to", "openvno"], "Did you mean 'openvino"),
        (["RUN", "--to", "onnx", "--from", "nobody"], "expected student or shipped"),
        (["RUN", "--to", "torch", "--from", "shipped"], "torch is made from the torch model"),
        (["nowhere", "--to", "onnx"], "there is no model 'nowhere': check its path"),
        (["{model: mlp, weights: w.safetensors}", "--to", "onnx"], "--data is not given"),
        (["nowhere", "--to", "onnx", "--from", "shipped"], "--from shipped: there is no"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(words, told, finished, tmp_path, monkeypatch):
    given = [finished if word == "RUN" else word for word in words]
    code, out, err = typed(monkeypatch, "export", *given, "--out", tmp_path / "made")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "made").exists()
