"""ONNX files that answer as the models do that they were made of."""

import onnx
import pytest
import torch
from evaluation_samples import learned, stripes, subjects
from onnx import TensorProto, helper
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, ShapeMismatch
from tutelage.deployment import export_onnx
from tutelage.evaluation import macs, predict
from tutelage.evaluation.costs.onnx_macs import onnx_macs
from tutelage.evaluation.examining import examine
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.parts.cost import Cost
from tutelage.models import Observed


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, its file and the data."""
    data = stripes(40, 5)
    model = learned(stripes(96, 1), 4, 0, steps=10)
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    export_onnx(model, data.batch(torch.arange(8)), path, names=data.classes)
    return model, path, data


def test_it_answers_as_the_model_does_in_any_batch(made):
    model, path, data = made
    ours, theirs = predict(OnnxModel(path), data), predict(model, data)
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-4)
    assert len(OnnxModel(path)(data.batch(torch.arange(1))).logits) == 1


def test_it_knows_its_classes_and_puts_them_in_another_order(made):
    _, path, data = made
    model = OnnxModel(path)
    assert model.names == data.classes
    batch = data.batch(torch.arange(3))
    turned = model.ordered([2, 0, 1])(batch).logits
    assert torch.equal(turned, model(batch).logits[:, [2, 0, 1]])


def test_its_weights_and_operations_are_counted(made):
    model, path, data = made
    file = OnnxModel(path)
    assert file.macs() == macs(model, data.batch(torch.arange(1)))
    weights = sum(p.numel() for p in model.parameters())
    assert 0.9 * weights < file.parameters <= weights  # BatchNorm may be folded into a convolution
    assert file.bytes >= 4 * file.parameters


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1, groups=1), nn.Flatten(), nn.LazyLinear(3)),
        nn.Sequential(nn.Conv2d(1, 4, 3, dilation=2), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.LazyLinear(3)),
        nn.Sequential(nn.ConvTranspose2d(1, 2, 2, stride=2), nn.Flatten(), nn.LazyLinear(3)),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 3)),
    ],
)  # fmt: skip
def test_operations_of_a_file_are_those_of_torch(net, tmp_path):
    example = stripes(3, 0).batch(torch.arange(3))
    net(example.inputs)
    model = Observed(net.eval())
    export_onnx(model, example, tmp_path / "net.onnx")
    assert onnx_macs(tmp_path / "net.onnx") == macs(model, example)


def one_operation(path, kind, **attributes):
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")
    ]
    graph = helper.make_graph([node], "one", shapes[:1], shapes[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_an_operation_of_unknown_cost_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ModelError, match="runs Hardmax, whose multiply-accumulates"):
        onnx_macs(one_operation(tmp_path / "odd.onnx", "Hardmax"))
    assert onnx_macs(one_operation(tmp_path / "free.onnx", "Relu")) == 0


def test_wrong_shapes_and_files_are_told_in_a_line(made, tmp_path):
    _, path, _ = made
    with pytest.raises(ShapeMismatch, match=r"takes inputs \(1, 12, 12\), and the examples are"):
        OnnxModel(path)(Batch(torch.zeros(2, 3, 12, 12)))
    with pytest.raises(ShapeMismatch, match="takes inputs, and the data has left, right"):
        OnnxModel(path)(Batch({"left": torch.zeros(1, 3), "right": torch.zeros(1, 3)}))
    with pytest.raises(ShapeMismatch, match=r"cannot answer 2 examples.*tensor\(double\)"):
        OnnxModel(path)(Batch(torch.zeros(2, 1, 12, 12, dtype=torch.float64)))
    with pytest.raises(ModelError, match="there is no ONNX file"):
        OnnxModel(tmp_path / "nowhere.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf")
    with pytest.raises(ModelError, match="cannot be loaded by ONNX Runtime") as caught:
        OnnxModel(tmp_path / "broken.onnx")
    assert "\n" not in str(caught.value)


def test_the_cost_of_a_file_stands_beside_that_of_a_model(made):
    model, path, data = made
    trial = subjects(
        models={"teacher": model, "student": OnnxModel(path)}, files={"teacher": path}, test=data
    )
    found = examine(trial, {"cost": Cost(seconds=0.1, calls=3)})["cost"]["figures"]
    measured = {(row["role"], row["backend"]) for row in found["latency"]}
    assert measured == {
        ("teacher", "torch"),
        ("teacher", "onnxruntime"),
        ("student", "onnxruntime"),
    }
    assert found["models"]["student"]["macs"] == found["models"]["teacher"]["macs"]
    assert found["models"]["student"]["memory"] is None
    assert found["models"]["student"]["memory_why"]
