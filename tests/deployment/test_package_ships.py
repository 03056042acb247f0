"""What a package ships: the student, its compressed file, or a student of several exits."""

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from package_samples import archive, changed, contents, finished_run, listed_anew
from tutelage.compression import int8_dynamic
from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, PackageError
from tutelage.data import fashion_mnist_small
from tutelage.deployment import export_exits, read_policy
from tutelage.deployment.manifest import PAPERS
from tutelage.deployment.reference import REFERENCE
from tutelage.deployment.shipped import numbers_of, shipped
from tutelage.deployment.verify import verify
from tutelage.evaluation import ExitPolicy, certainty, early
from tutelage.models import Intake, Observed, build_model, save_weights
from tutelage.recipe.packaging import package_run


@cache
def images():
    return fashion_mnist_small().validation.batch(torch.arange(200))


@cache
def eight_bits():
    place = shutil.copytree(finished_run(), Path(mkdtemp()) / "run")
    int8_dynamic(place / "student.onnx", place / "shipped.onnx", images())
    return place


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(eight_bits(), tmp_path / "run")


def read(place, name):
    return json.loads((place / name).read_text())


def test_the_compressed_file_is_shipped_without_the_full_weights(copied, tmp_path):
    checked = package_run(copied, tmp_path / "p")
    place = tmp_path / "p"
    names = {path.name for path in place.iterdir()}
    assert names == {"student.onnx", REFERENCE, *PAPERS, "manifest.json"}
    assert (place / "student.onnx").read_bytes() == (copied / "shipped.onnx").read_bytes()
    assert checked.models[1:] == ("student.onnx: 10 classes, int8",)
    full = package_run(copied, tmp_path / "full", weights=True)
    assert full.bytes > checked.bytes + 20_000
    assert (tmp_path / "full" / "student.safetensors").is_file()
    assert "student.safetensors" in read(tmp_path / "full", "preprocessing.json")["temperature"]


def test_every_paper_says_that_it_is_the_compressed_file(copied, tmp_path):
    package_run(copied, tmp_path / "p")
    place, ships = tmp_path / "p", {"file": "student.onnx", "numbers": "int8"}
    assert ships.items() <= read(place, "manifest.json")["run"]["student"].items()
    stated = read(place, "preprocessing.json")
    assert ships.items() <= stated["model"].items()
    assert "weights" not in stated
    assert "student.safetensors" not in stated["temperature"]
    assert read(place, "labels.json")["model"] == "student.onnx (int8)"
    bill = read(place, "sbom.json")["metadata"]["component"]
    assert {"name": "tutelage:numbers", "value": "int8"} in bill["properties"]
    names = {each["name"] for each in bill["components"]}
    assert names == {"student.onnx", REFERENCE}
    for name in ("MODEL_CARD.md", "nist_ai_rmf.md"):
        text = (place / name).read_text()
        assert "not the student as it was trained but its compressed file (int8, " in text, name
    assert "(float32)" in contents()["nist_ai_rmf.md"].decode()
    assert "compressed file" not in contents()["MODEL_CARD.md"].decode()


def test_the_shipped_file_answers_as_the_student_nearly_always(copied, tmp_path):
    package_run(copied, tmp_path / "p")
    given = {"inputs": images().inputs.numpy()}
    found, full = (
        onnxruntime.InferenceSession(str(path)).run(None, given)[0]
        for path in (tmp_path / "p" / "student.onnx", copied / "student.onnx")
    )
    assert (found.argmax(1) == full.argmax(1)).mean() > 0.95
    assert not np.array_equal(found, full)


def half():
    """A linear model of 784 inputs in 16 bits, with float32 at both ends."""
    weights = helper.make_tensor("w", TensorProto.FLOAT16, [784, 10], np.zeros(7840, np.float16))
    given = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", 1, 28, 28])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    nodes = [
        helper.make_node("Cast", ["inputs"], ["short"], to=TensorProto.FLOAT16),
        helper.make_node("Flatten", ["short"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["out"]),
        helper.make_node("Cast", ["out"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "g", [given], [answer], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_file_in_half_precision_is_known_as_such(copied, tmp_path):
    model, words = half(), onnx.load(str(copied / "student.onnx")).metadata_props
    helper.set_model_props(model, {each.key: each.value for each in words})
    onnx.save(model, str(copied / "shipped.onnx"))
    models = package_run(copied, tmp_path / "p").models
    assert models[1:] == ("student.onnx: 10 classes, float16",)


def test_a_compressed_file_that_says_nothing_of_its_inputs_is_refused(copied, tmp_path):
    onnx.save(half(), str(copied / "shipped.onnx"))
    with pytest.raises(ExportError, match=r"shipped.onnx does not say what shape its inputs have"):
        package_run(copied, tmp_path / "p")
    (copied / "shipped.onnx").write_bytes(b"broken")
    with pytest.raises(ExportError, match=r"shipped.onnx cannot be loaded"):
        shipped(copied)
    assert not (tmp_path / "p").exists()


def test_the_reference_for_watching_goes_in_where_a_run_has_one(copied, tmp_path):
    save_file({"logits": torch.zeros(4, 10)}, copied / "reference.safetensors")
    found = package_run(copied, tmp_path / "p.zip")
    assert "reference.safetensors: 1 tensors" in found.models
    package_run(copied, tmp_path / "q")
    assert "reference.safetensors holds how" in (tmp_path / "q" / "nist_ai_rmf.md").read_text()
    save_file({"logits": torch.full((4, 10), float("nan"))}, copied / "reference.safetensors")
    with pytest.raises(PackageError, match=r"reference.safetensors: logits holds NaN"):
        package_run(copied, tmp_path / "r")


@cache
def with_exits():
    """A run's folder whose student, made in Python, has three exits."""
    torch.manual_seed(0)
    spec = {"vgg": {"widths": [4, 8], "per_stage": 1}}
    options = {"model": spec, "exits": {"layer1": {"convolutions": 1}, "layer2": None}}
    made = build_model({"with_exits": options}, classes=10, shape=(1, 28, 28))
    student = Observed(made, intake=Intake([0.3], [0.35])).eval()
    place = shutil.copytree(finished_run(), Path(mkdtemp()) / "run")
    names = json.loads((place / "report.json").read_text())["data"]["classes"]
    with torch.no_grad():
        sure = [certainty(e) for e in student.model.answers(student.intake(images().inputs))]
    limits = tuple(float(each.median()) + 1e-6 for each in sure[:-1])
    policy = ExitPolicy(limits, (1.0, 2.0, 3.0), unit="ms")
    few = Batch(images().inputs[:20])
    export_exits(student, policy, few, place / "student.onnx", names=names)
    save_weights(made, place / "student.safetensors")
    return place, student, policy


def test_a_student_of_several_exits_is_packed_checked_and_answers(tmp_path):
    run, student, policy = with_exits()
    checked = package_run(run, tmp_path / "p")
    assert checked.models[-1] == "student.onnx: 10 classes, float32, 3 exits"
    place = tmp_path / "p"
    assert read(place, "preprocessing.json")["output"]["names"] == ["exit0", "exit1", "logits"]
    assert read_policy(place / "student.exits.json") == policy
    session = onnxruntime.InferenceSession(str(place / "student.onnx"))
    ran = session.run(None, {"inputs": images().inputs.numpy()})
    logits, numbers = read_policy(place / "student.onnx").apply(list(map(torch.from_numpy, ran)))
    answer, left = early(student, Batch(images().inputs), policy)
    assert (numbers == left).float().mean() > 0.98  # thresholds may fall between two roundings
    same = numbers == left
    np.testing.assert_allclose(logits[same], answer.logits[same], atol=1e-4)
    assert len(set(numbers.tolist())) > 1


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (None, r"student.onnx has 3 exits, and there is no student.exits.json"),
        (ExitPolicy((0.5,), (1, 2)), "exits.json is not the policy that student.onnx was exported"),
        (ExitPolicy((0.5, 0.5), (1, 2, 3)), "is not the policy that student.onnx was exported"),
        ("{}", "this is no exit policy of schema 1"),
    ],
)
def test_a_policy_of_another_file_is_refused(policy, says, tmp_path):
    run = shutil.copytree(with_exits()[0], tmp_path / "run")
    (run / "student.exits.json").unlink()
    if policy is not None:
        text = policy if isinstance(policy, str) else policy.to_json()
        (run / "student.exits.json").write_text(text)
    with pytest.raises(PackageError, match=says):
        package_run(run, tmp_path / "p")


def test_a_policy_beside_a_file_of_one_exit_is_refused(tmp_path):
    run = shutil.copytree(finished_run(), tmp_path / "run")
    (run / "student.exits.json").write_text(ExitPolicy((0.5,), (1, 2)).to_json())
    with pytest.raises(PackageError, match=r"is for 2 exits, and student.onnx has 1"):
        package_run(run, tmp_path / "p")


def test_the_kind_of_most_weights_counts():
    assert numbers_of(finished_run() / "student.onnx") == "float32"
    assert numbers_of(eight_bits() / "shipped.onnx") == "int8"


def test_columns_of_another_width_are_refused(tmp_path):
    stated = json.loads(contents()["preprocessing.json"])
    column = {"name": "a", "kind": "number", "mean": 0, "std": 1, "scaled": True}
    stated["columns"] = [column | {"missing": "error", "missing_cells": []}]
    files = listed_anew(changed("preprocessing.json", json.dumps(stated).encode()))
    with pytest.raises(PackageError, match="its columns make 1 features, and its inputs are"):
        verify(archive(tmp_path / "p.zip", files))
    stated["columns"] = [column]
    files = listed_anew(changed("preprocessing.json", json.dumps(stated).encode()))
    with pytest.raises(PackageError, match=r"column 'a' is not as preprocessing.json states"):
        verify(archive(tmp_path / "q.zip", files))
