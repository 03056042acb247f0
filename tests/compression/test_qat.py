"""What learned with rounding is what the int8 file computes."""

import onnx
import onnxruntime
import pytest
import torch
from compression_samples import trained, validation
from qat_samples import SMALL, batches, export, taught, unseen

from tutelage.compression import int8_static, qat_finished, qat_float, qat_prepared
from tutelage.compression.agreement import answers
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models import load_weights, save_weights


@pytest.fixture(scope="module")
def model():
    return trained(SMALL, steps=60)


@pytest.fixture(scope="module")
def student(model):
    torch.manual_seed(0)
    return taught(qat_prepared(model, batches()), model, 12)


@pytest.fixture(scope="module")
def finished(student, tmp_path_factory):
    target = tmp_path_factory.mktemp("qat") / "int8.onnx"
    return target, qat_finished(student, target, unseen(1000), export)


def test_the_file_answers_as_the_rounded_student_on_test_images(student, finished):
    target, change = finished
    check = unseen(1000)
    before, after = answers(student, check), OnnxModel(target)(check).logits
    assert (before.argmax(-1) == after.argmax(-1)).double().mean() >= 0.995
    assert change.agreement.equal_top1 >= 0.995
    plain = answers(qat_float(student), check)
    off, rounding = (before - after).abs().mean(), (before - plain).abs().mean()
    assert off < 0.5 * rounding
    assert change.details["mean_difference"] == pytest.approx(
        (off / before.abs().amax()).item(), rel=1e-4
    )
    assert change.details["rounding"] > 0


def test_the_file_is_smaller_and_all_its_convolutions_are_integer_kernels(finished, tmp_path):
    target, change = finished
    assert change.bytes_after == target.stat().st_size < change.bytes_before / 1.8
    assert OnnxModel(target).names[3] == "class 3"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "seen.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "seen.onnx")).graph.node]
    assert kinds.count("QLinearConv") == change.details["layers"] - 1 == 7
    assert (kinds.count("QGemm"), kinds.count("Conv")) == (1, 0)


def test_it_loses_no_more_than_what_was_quantised_without_learning(model, finished, tmp_path):
    source = tmp_path / "float.onnx"
    export(model, source)
    calibration = [validation(start, start + 50) for start in range(0, 300, 50)]
    after = int8_static(source, tmp_path / "static.onnx", calibration, unseen(1000)).agreement
    assert finished[1].agreement.accuracy_after > after.accuracy_after - 0.02
    assert after.accuracy_before > 0.4


def test_paths_and_taps_stay_and_the_model_is_left_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared = qat_prepared(model, batches())
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert {name for name, _ in model.named_modules()} <= {n for n, _ in prepared.named_modules()}
    paths = ["layer1", "layer3.0.relu2:in", "linear:in"]
    check = validation(0, 40)
    wanted, found = model.tap(paths)(check), prepared.tap(paths)(check)
    for path in paths:
        scale = wanted[path].abs().amax()
        assert (wanted[path] - found[path]).abs().mean() < 0.02 * scale
    model.release()


def test_ranges_follow_in_training_and_stay_in_evaluation(model):
    prepared = qat_prepared(model, batches(), momentum=0.5)
    span = prepared.model.conv1.rounding.intake
    assert (span.low.item(), span.high.item()) == (0, 1)
    dark = validation(0, 20)
    dark.inputs.mul_(0.5)
    prepared.eval()(dark)
    assert span.high.item() == 1
    prepared.train()(dark)
    assert span.high.item() == pytest.approx(0.5 + 0.5 * dark.inputs.max().item())


def test_its_state_survives_safetensors(model, student, tmp_path):
    save_weights(student, tmp_path / "student.safetensors")
    other = qat_prepared(model, batches())
    load_weights(other, tmp_path / "student.safetensors")
    check = validation(0, 30)
    assert torch.equal(answers(other, check), answers(student, check))


def test_bfloat16_autocast_keeps_the_ranges(model):
    states = []
    for half in (False, True):
        torch.manual_seed(0)
        prepared = qat_prepared(model, batches())
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            taught(prepared, model, 4)
        states.append({k: v for k, v in prepared.state_dict().items() if "rounding" in k})
    for name, whole in states[0].items():
        assert states[1][name].dtype == torch.float32
        assert states[1][name].isfinite()
        assert (states[1][name] - whole).abs() <= 0.02 * max(whole.abs(), 1), name
