"""Half the bytes: every weight rounded once, float32 outside, and nothing that overflows."""

import numpy as np
import onnx
import pytest
import torch
from compression_samples import shipped, trained, validation
from onnx import numpy_helper

from tutelage.compression import half
from tutelage.core.errors import DataError, ExportError, RecipeError
from tutelage.core.registry import get
from tutelage.evaluation.onnx_model import OnnxModel


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    model = trained({"mlp": {"hidden": [64]}}, steps=60)
    return shipped(model, tmp_path_factory.mktemp("half") / "net.onnx")


def weights(path):
    return {each.name: each for each in onnx.load(str(path)).graph.initializer}


@pytest.mark.parametrize(("dtype", "near"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_the_file_is_half_and_answers_with_rounded_weights(source, tmp_path, dtype, near):
    target, check = tmp_path / "half.onnx", validation(0, 400)
    change = half(source, target, check, dtype=dtype)
    assert change.bytes_after == target.stat().st_size
    assert change.times_smaller > 1.9
    assert change.parameters_after == change.parameters_before
    assert 0 < change.agreement.max_difference < near
    assert change.agreement.equal_top1 > 0.99
    assert change.agreement.accuracy_before > 0.6
    assert abs(change.agreement.accuracy_loss.mean) < 0.01
    graph = onnx.load(str(target)).graph
    ends = [graph.input[0], graph.output[0]]
    assert {each.type.tensor_type.elem_type for each in ends} == {onnx.TensorProto.FLOAT}
    assert change.details == {"dtype": dtype, "weights": 2, "vanished": 0}


def test_the_answers_are_those_of_a_model_whose_weights_were_rounded(source, tmp_path):
    half(source, tmp_path / "half.onnx", validation(0, 20))
    rounded = onnx.load(str(source))
    for each in rounded.graph.initializer:
        values = numpy_helper.to_array(each)
        if values.dtype == np.float32 and values.size >= 128:
            values = values.astype(np.float16).astype(np.float32)
            each.CopyFrom(numpy_helper.from_array(values, each.name))
    onnx.save(rounded, str(tmp_path / "rounded.onnx"))
    check = validation(0, 200)
    found, wanted = (OnnxModel(tmp_path / f"{n}.onnx")(check).logits for n in ("half", "rounded"))
    assert torch.allclose(found, wanted, atol=1e-6)


def test_words_stay_and_small_tensors_too(source, tmp_path):
    target = tmp_path / "half.onnx"
    half(source, target, validation(0, 20))
    assert OnnxModel(target).names == OnnxModel(source).names != ()
    kinds = {name: each.data_type for name, each in weights(target).items()}
    assert kinds["model.linear.bias"] == onnx.TensorProto.FLOAT
    assert kinds["model.linear.weight.float16"] == onnx.TensorProto.FLOAT16
    assert "model.linear.weight" not in kinds


def holding(source, value, path):
    """The file with one weight that is this."""
    model = onnx.load(str(source))
    tensor = next(t for t in model.graph.initializer if t.name == "model.linear.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[3, 5] = value
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))
    return path


def test_what_overflows_is_refused_and_bfloat16_holds_it(source, tmp_path):
    given = holding(source, 70000.0, tmp_path / "large.onnx")
    with pytest.raises(ExportError, match="holds 70000, and float16 ends at 65504: take bfloat16"):
        half(given, tmp_path / "out.onnx", validation(0, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["large.onnx"]
    change = half(given, tmp_path / "out.onnx", validation(0, 8), dtype="bfloat16")
    assert change.times_smaller > 1.7


def test_what_vanishes_is_counted(source, tmp_path):
    given = holding(source, 1e-9, tmp_path / "small.onnx")
    assert half(given, tmp_path / "out.onnx", validation(0, 8)).details["vanished"] == 1


def test_the_rest_is_refused_in_one_line(source, tmp_path):
    target = tmp_path / "out.onnx"
    with pytest.raises(RecipeError, match="Did you mean 'float16'"):
        half(source, target, validation(0, 8), dtype="float6")
    with pytest.raises(DataError, match="no examples"):
        half(source, target, validation(0, 0))
    half(source, target, validation(0, 8))
    with pytest.raises(ExportError, match="say replace=True"):
        half(source, target, validation(0, 8))
    with pytest.raises(ExportError, match="has no weight in float32 of 128 numbers or more"):
        half(target, tmp_path / "again.onnx", validation(0, 8))
    assert not (tmp_path / "again.onnx").exists()


def test_it_is_registered():
    assert get("compression", "half") is half
