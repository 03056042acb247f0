"""Files of other kinds are measured as they are: several inputs, half, int8, OpenVINO."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch
from tutelage.evaluation.costs.limits import Conditions
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.recipe.benching import bench_words

SIZE, CLASSES = 48, 5


def save(path, nodes, weights, kind=TensorProto.FLOAT, names=("inputs",)):
    """A file that takes rows of 48 numbers and answers with five logits."""
    shape = ["batch", SIZE]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("logits", kind, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def linear(path, kind=np.float32):
    weight = np.ones((SIZE, CLASSES), dtype=kind)
    node = helper.make_node("MatMul", ["inputs", "weight"], ["logits"])
    return save(path, [node], {"weight": weight}, helper.np_dtype_to_tensor_dtype(weight.dtype))


def half_inside(path):
    """Weights in half, answers in half, and inputs and logits in float32."""
    nodes = [
        helper.make_node("Cast", ["inputs"], ["narrow"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["narrow", "weight"], ["found"]),
        helper.make_node("Cast", ["found"], ["logits"], to=TensorProto.FLOAT),
    ]
    return save(path, nodes, {"weight": np.ones((SIZE, CLASSES), dtype=np.float16)})


def int8(path):
    nodes = [
        helper.make_node("DequantizeLinear", ["kept", "scale"], ["weight"]),
        helper.make_node("MatMul", ["inputs", "weight"], ["logits"]),
    ]
    kept = np.ones((SIZE, CLASSES), dtype=np.int8)
    return save(path, nodes, {"kept": kept, "scale": np.array(0.5, dtype=np.float32)})


def pair(path):
    names = ("left", "right")
    nodes = [
        helper.make_node("Add", list(names), ["both"]),
        helper.make_node("MatMul", ["both", "weight"], ["logits"]),
    ]
    return save(path, nodes, {"weight": np.ones((SIZE, CLASSES), np.float32)}, names=names)


def measured(*files, batches=(1, 4)):
    conditions = Conditions(batches, (1,))
    return bench_words([str(each) for each in files], None, conditions, seconds=0.2, starts=1)


def test_half_and_int8_are_counted_in_their_own_width(tmp_path):
    whole, half, inside, small = measured(
        linear(tmp_path / "whole.onnx"),
        linear(tmp_path / "half.onnx", np.float16),
        half_inside(tmp_path / "inside.onnx"),
        int8(tmp_path / "int8.onnx"),
    )["models"]
    numbers = SIZE * CLASSES
    assert [one["parameters"] for one in (whole, half, inside)] == [numbers] * 3
    assert small["parameters"] == numbers + 1  # and a scale
    assert [one["weight_bytes"] for one in (whole, half, inside, small)] == [
        4 * numbers, 2 * numbers, 2 * numbers, numbers + 4,
    ]  # fmt: skip
    for one in (whole, half, inside, small):
        assert [(row["batch"], row["backend"]) for row in one["warm"]] == [
            (1, "onnxruntime"),
            (4, "onnxruntime"),
        ]
        assert min(row["p50"] for row in one["warm"]) > 0
        assert one["cold"]["first_ms"] > 0


def test_several_inputs_are_given_by_name(tmp_path):
    found = measured(pair(tmp_path / "pair.onnx"))
    (one,) = found["models"]
    assert "random numbers of the shape that" in found["data"]
    assert [row["batch"] for row in one["warm"]] == [1, 4]
    assert one["cold"]["first_ms"] > 0


def test_a_file_of_other_inputs_than_the_first_takes_is_a_line(tmp_path):
    with pytest.raises(ShapeMismatch, match="takes left, right, and the data has one input"):
        measured(linear(tmp_path / "whole.onnx"), pair(tmp_path / "pair.onnx"))


def test_an_openvino_file_stands_beside_the_onnx_file_it_was_made_of(tmp_path):
    openvino = pytest.importorskip("openvino")
    from tutelage.deployment.formats.openvino import save as keep

    file = linear(tmp_path / "whole.onnx")
    keep(openvino.convert_model(file), tmp_path / "whole.xml")
    one, other = measured(file, tmp_path / "whole.xml", batches=(4,))["models"]
    assert (other["format"], other["warm"][0]["backend"]) == ("openvino", "openvino")
    assert (other["parameters"], other["weight_bytes"]) == (SIZE * CLASSES, 4 * SIZE * CLASSES)
    bytes_of = [(tmp_path / f"whole.{end}").stat().st_size for end in ("xml", "bin")]
    assert other["file_bytes"] == sum(bytes_of)
    share = sum(bytes_of) / one["file_bytes"]
    assert other["ratios"]["file_bytes"] == pytest.approx(share, rel=0.01)
    assert other["cold"]["load_ms"] > 0
    assert other["warm"][0]["p50"] > 0


def test_a_half_file_takes_float32_and_no_double(tmp_path):
    rows = torch.rand(3, SIZE)
    files = linear(tmp_path / "half.onnx", np.float16), half_inside(tmp_path / "inside.onnx")
    for model in map(OnnxModel, files):
        logits = model(Batch(rows)).logits
        assert logits.dtype == torch.float32
        assert torch.allclose(logits, rows.sum(1, keepdim=True).expand(3, CLASSES), rtol=5e-3)
        with pytest.raises(ShapeMismatch, match="cannot answer 3 examples"):
            model(Batch(rows.double()))
