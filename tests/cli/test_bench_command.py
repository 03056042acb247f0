"""tutelage bench: runs, files and descriptions side by side; what it prints, and wrong words."""

import json

import numpy as np
import onnx
import pytest
from rich.console import Console

from tutelage.data.fashion_small import embedded
from tutelage.evaluation.costs import bench
from tutelage.recipe.run import run
from typed import typed


def call(monkeypatch, *words):
    return typed(monkeypatch, "bench", *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small run with its ONNX file."""
    place = tmp_path_factory.mktemp("bench")
    train, _ = embedded()
    rows = np.concatenate([np.flatnonzero(train.targets.numpy() == c)[:40] for c in range(10)])
    images, targets = train.inputs[rows, 0].numpy(), train.targets[rows].numpy()
    np.savez(place / "images.npz", inputs=images, targets=targets)
    source = {"npz": {"path": str(place / "images.npz"), "validation": 50, "test": 50}}
    recipe = {
        "recipe": 1,
        "name": "small",
        "data": {"source": source},
        "teacher": {"model": {"mlp": {"hidden": [512]}}, "train": {"epochs": 1}},
        "student": {"model": {"mlp": {"hidden": [8]}}},
        "objective": ["ce", "kd"],
        "train": {"epochs": 1, "batch_size": 32, "learning_rate": 0.05},
        "baseline": {"epochs": 1},
        "report": "none",
        "export": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
        run(recipe, place / "a", console=Console(quiet=True))
    linear(place / "a" / "student.onnx")
    return place / "a"


def linear(path):
    """A file as an export writes it, without the seconds that an export takes."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["inputs"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("inputs", kind, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", kind, ["batch", 10])],
        [onnx.numpy_helper.from_array(np.ones((784, 10), dtype=np.float32), "weight")],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def test_teacher_student_and_file_stand_side_by_side(made, monkeypatch):
    code, out, err = call(
        monkeypatch, f"{made}:teacher", made, "--batch", "1,16", "--seconds", "1", "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    names = [one["name"] for one in found["models"]]
    assert names == [f"{made}:teacher", str(made), f"{made}/student.onnx"]
    assert [one["format"] for one in found["models"]] == ["torch", "torch", "onnx"]
    teacher, student, file = found["models"]
    assert teacher["parameters"] > 20 * student["parameters"]
    assert student["file_bytes"] == (made / "student.safetensors").stat().st_size
    kept = made / "checkpoint" / "teacher" / "model.safetensors"
    assert teacher["file_bytes"] == (kept.stat().st_size if kept.is_file() else None)
    assert file["file_bytes"] == (made / "student.onnx").stat().st_size
    assert {row["backend"] for row in file["warm"]} == {"onnxruntime"}
    for one in found["models"]:
        assert [(row["threads"], row["batch"]) for row in one["warm"]] == [(1, 1), (1, 16)]
        assert min(one["cold"][key] for key in ("import_ms", "load_ms", "first_ms")) > 0
        # Its own weights and a few buffers: neither the data nor the runtime.
        assert one["cold"]["memory_bytes"] is None or one["cold"]["memory_bytes"] < 40e6
    assert file["cold"]["import_ms"] < student["cold"]["import_ms"]
    assert student["ratios"]["warm"][1]["p50"] < 1
    assert found["data"].startswith("validation examples of ")


@pytest.fixture
def started(monkeypatch):
    """Fresh processes that were asked for, none of which is started."""
    asked_for = []

    def pretend(start, name, asked):
        asked_for.append((name, start.asked.get("model")))
        return {"import_ms": 1.0, "load_ms": 1.0, "first_ms": 1.0, "memory_bytes": 1}

    monkeypatch.setattr(bench, "cold", pretend)
    return asked_for


def test_a_baseline_is_measured_with_its_own_weights(made, monkeypatch, started):
    name = f"{made}:baseline"
    code, out, err = call(monkeypatch, name, f"{made}:student", "--seconds", "0.3", "--json")
    assert (code, err) == (0, "")
    baseline, student = json.loads(out)["models"]
    assert [baseline["name"], student["name"]] == [name, f"{made}:student"]
    assert baseline["parameters"] == student["parameters"] == 784 * 8 + 8 + 8 * 10 + 10
    assert "checkpoint/baseline" in baseline["file"].replace("\\", "/")
    assert student["file"] == str(made / "student.safetensors")
    assert started[:2] == [(name, name), (student["name"], student["name"])]


def test_a_description_is_measured_beside_a_file(made, monkeypatch, started):
    weights = made / "student.safetensors"
    described = {"model": {"mlp": {"hidden": [8]}}, "weights": str(weights)}
    code, out, err = call(
        monkeypatch, json.dumps(described), made / "student.onnx", "--data", made,
        "--seconds", "0.3", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    one, other = json.loads(out)["models"]
    assert "mlp" in one["name"]
    assert (one["file"], one["file_bytes"]) == (str(weights), weights.stat().st_size)
    assert other["name"] == str(made / "student.onnx")
    assert started[:2] == [(one["name"], described), (other["name"], None)]


def test_files_alone_need_no_data_and_twice_the_same_shows_the_noise(made, monkeypatch):
    file = made / "student.onnx"
    code, out, err = call(monkeypatch, file, file, "--preset", "phone", "--seconds", "0.3")
    assert (code, err) == (0, "")
    assert out.startswith("phone: limits on this machine: threads 1; batch 1; ")
    assert "random numbers of the shape" in out
    assert f"2  {file} (2) (ONNX Runtime" in out
    for word in ("p50", "p90", "p99", "a second", "memory", "first answer", "In brackets"):
        assert word in out
    assert "emulat" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.onnx"], "there is no ONNX file 'nowhere.onnx'"),
        (["nowhere"], "there is no model 'nowhere': check its path"),
        (["nowhere", "--data", "FOLDER"], "model: got 'nowhere': give a run folder"),
        (["{model: mlp, weights: w.safetensors}"], "--data is not given"),
        (["FILE", "--preset", "fone"], "no preset 'fone'. Did you mean 'phone'"),
        (["FILE", "--preset", "phone", "--batch", "2"], "--preset sets batch and threads"),
        (["FILE", "--batch", "1,x"], "--batch is '1,x': give whole numbers"),
        (["FILE", "--threads", "0"], "--threads is '0': give whole numbers"),
        (["FILE", "--seconds", "0"], "--seconds is 0: give a number above 0"),
        (["FILE", "--seconds", "nan"], "--seconds is nan: give a number above 0"),
        (["BROKEN"], "cannot be loaded by ONNX Runtime"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(words, told, made, monkeypatch, tmp_path):
    broken = tmp_path / "broken.onnx"
    content = (made / "student.onnx").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    known = {"FILE": made / "student.onnx", "FOLDER": made, "BROKEN": broken}
    code, out, err = call(monkeypatch, *(known.get(word, word) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
