"""Files of eight bits: smaller, near enough, the same each time, and nothing where it cannot be."""

import logging

import onnx
import pytest
import torch
from compression_samples import shipped, trained, validation
from torch import nn

from tutelage.compression import int8_dynamic, int8_static
from tutelage.core.batch import Batch
from tutelage.core.errors import (
    DataError,
    ExportError,
    ModelError,
    RecipeError,
    ShapeMismatch,
    TutelageError,
)
from tutelage.evaluation.intervals import newcombe
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models import Observed

CHECK = (1000, 1600)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """LeNet, three times as wide: half a million weights."""
    model = trained({"lenet": {"width": 3}}, steps=120)
    return shipped(model, tmp_path_factory.mktemp("int8") / "net.onnx")


@pytest.fixture(scope="module")
def batches():
    return [validation(start, start + 50) for start in range(0, 300, 50)]


@pytest.fixture(scope="module")
def static(source, batches):
    target = source.with_name("static.onnx")
    return target, int8_static(source, target, batches, validation(*CHECK))


def right(path):
    batch = validation(*CHECK)
    return OnnxModel(path)(batch).logits.argmax(-1) == batch.targets


def test_a_static_file_is_smaller_and_its_loss_is_stated_with_an_interval(source, static):
    target, change = static
    assert change.bytes_before == source.stat().st_size
    assert change.bytes_after == target.stat().st_size
    assert change.times_smaller >= 2.5
    before, after = right(source), right(target)
    assert before.double().mean() > 0.7  # it learned something, so there is something to lose
    table = (before & after, before & ~after, ~before & after, ~before & ~after)
    assert change.agreement.accuracy_loss == newcombe(*(int(each.sum()) for each in table))
    assert change.agreement.accuracy_after == pytest.approx(after.double().mean().item())
    assert abs(change.agreement.accuracy_loss.mean) < 0.02
    assert change.agreement.equal_top1 > 0.95
    assert 0 < change.agreement.max_difference < 0.2
    assert change.agreement.examples == 600


def test_a_file_in_qdq_form_has_weights_with_a_scale_for_each_filter(static):
    target, change = static
    graph = onnx.load(str(target)).graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    weights = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims]
    assert change.details["int8_weights"] == sum(len(t.dims) > 1 for t in weights) == 5
    scales = {t.name: list(t.dims) for t in graph.initializer if t.name.endswith("_scale")}
    assert [18] in scales.values()  # the first convolution's filters
    assert not [t for t in graph.initializer if t.data_type == 1 and len(t.dims) > 1]


def test_two_loads_answer_alike_and_so_does_a_second_making(source, static, batches, tmp_path):
    target, _ = static
    batch = validation(*CHECK)
    first = OnnxModel(target)(batch).logits
    assert torch.equal(first, OnnxModel(target)(batch).logits)
    again = tmp_path / "again.onnx"
    int8_static(source, again, batches, validation(0, 4))
    assert torch.equal(first, OnnxModel(again)(batch).logits)


def test_words_in_the_file_stay_and_the_source_too(source, static):
    target, _ = static
    assert OnnxModel(target).names == OnnxModel(source).names != ()
    words = {each.key for each in onnx.load(str(target)).metadata_props}
    assert {"tutelage.input_range", "tutelage.version", "tutelage.source"} <= words
    assert sorted(path.name for path in source.parent.glob(".*")) == []


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_ways_to_find_a_range_work_on_uneven_batches(
    source, static, batches, tmp_path, method
):
    uneven = [batches[0][:7], batches[0][7:], batches[1][:1], batches[1][1:]]
    target = tmp_path / f"{method}.onnx"
    check = validation(*CHECK)
    change = int8_static(source, target, uneven, check, method=method, examples=49)
    assert change.agreement.equal_top1 > 0.9
    usual = OnnxModel(static[0])(check).logits
    assert not torch.equal(OnnxModel(target)(check).logits, usual)


def test_one_scale_a_weight_is_another_file(source, static, batches, tmp_path):
    target = tmp_path / "tensor.onnx"
    change = int8_static(source, target, batches, validation(0, 64), per_channel=False)
    assert change.bytes_after < static[1].bytes_after
    assert change.details["per_channel"] is False


def test_a_calibration_that_saw_other_ranges_gives_another_file(source, static, tmp_path):
    dark = [Batch(torch.zeros(64, 1, 28, 28))]
    target = tmp_path / "dark.onnx"
    change = int8_static(source, target, dark, validation(*CHECK), examples=64)
    assert change.agreement.accuracy_loss.low > 0  # the loss of a bad calibration shows
    assert change.agreement.equal_top1 < static[1].agreement.equal_top1


def test_without_labels_there_is_no_accuracy(source, batches, tmp_path):
    check = Batch(validation(0, 40).inputs)
    agreement = int8_static(source, tmp_path / "a.onnx", batches, check).agreement
    assert (agreement.accuracy_before, agreement.accuracy_loss) == (None, None)


def test_dynamic_files_are_smaller_where_linear_layers_are_large(source, tmp_path):
    target = tmp_path / "dynamic.onnx"
    check = validation(*CHECK)
    change = int8_dynamic(source, target, check)
    assert change.times_smaller >= 2.5
    assert change.agreement.equal_top1 > 0.97
    assert change.agreement.accuracy_loss.high < 0.03
    assert torch.equal(OnnxModel(target)(check).logits, OnnxModel(target)(check).logits)
    assert "MatMulInteger" in {node.op_type for node in onnx.load(str(target)).graph.node}


def recurrent(path, kind, gates, hidden=64):
    """A file with one recurrent layer on rows ``(N, 6, 12)``, and a linear one."""
    from onnx import TensorProto, helper, numpy_helper

    torch.manual_seed(0)
    shapes = {"W": (1, gates * hidden, 12), "R": (1, gates * hidden, hidden), "L": (hidden, 10)}
    weights = [
        numpy_helper.from_array((torch.randn(shape) / 8).numpy(), name)
        for name, shape in shapes.items()
    ]
    weights.append(numpy_helper.from_array(torch.tensor([0]).numpy(), "axis"))
    nodes = [
        helper.make_node("Transpose", ["inputs"], ["rows"], perm=[1, 0, 2]),
        helper.make_node(kind, ["rows", "W", "R"], ["", "state"], hidden_size=hidden),
        helper.make_node("Squeeze", ["state", "axis"], ["last"]),
        helper.make_node("MatMul", ["last", "L"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", 6, 12])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "g", [given], [made], weights)
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), str(path))
    return path


def test_the_weights_of_an_lstm_are_quantised(tmp_path):
    source = recurrent(tmp_path / "lstm.onnx", "LSTM", 4)
    change = int8_dynamic(source, tmp_path / "small.onnx", Batch(torch.randn(100, 6, 12)))
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "small.onnx")).graph.node}
    assert "DynamicQuantizeLSTM" in kinds
    assert change.times_smaller > 2.5
    assert change.agreement.max_difference < 0.1


def test_a_gru_stays_in_float32_and_only_its_linear_layer_shrinks(tmp_path):
    source = recurrent(tmp_path / "gru.onnx", "GRU", 3)
    change = int8_dynamic(source, tmp_path / "small.onnx", Batch(torch.randn(20, 6, 12)))
    assert change.details["int8_weights"] == 1
    assert change.times_smaller < 1.5


class TestRefusal:
    def attempt(self, tmp_path, source, calibration, check=None, **options):
        """What is said, in one line, and nothing is left."""
        before = sorted(path.name for path in tmp_path.iterdir())
        check = validation(0, 4) if check is None else check
        with pytest.raises(TutelageError) as caught:
            int8_static(source, tmp_path / "out.onnx", calibration, check, **options)
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        return caught.value

    def test_too_few_examples(self, source, batches, tmp_path):
        error = self.attempt(tmp_path, source, batches[:1])
        assert isinstance(error, DataError)
        assert "50 calibration examples were given and 256 are asked for" in str(error)
        error = self.attempt(tmp_path, source, batches, examples=31)
        assert isinstance(error, RecipeError)
        assert "at least 32, got 31" in str(error)
        assert isinstance(self.attempt(tmp_path, source, []), DataError)

    def test_a_method_that_is_none(self, source, batches, tmp_path):
        error = self.attempt(tmp_path, source, batches, method="entrpy")
        assert isinstance(error, RecipeError)
        assert "Did you mean 'entropy'?" in str(error)

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_a_file_that_is_cut_short(self, source, batches, tmp_path, share):
        cut = tmp_path / "cut.onnx"
        content = source.read_bytes()
        cut.write_bytes(content[: int(share * len(content))])
        error = self.attempt(tmp_path, cut, batches)
        assert isinstance(error, ModelError)
        assert "cannot be loaded by ONNX Runtime" in str(error)

    def test_no_file(self, batches, tmp_path):
        assert "there is no ONNX file" in str(self.attempt(tmp_path, tmp_path / "x", batches))

    def test_examples_of_another_shape_or_with_nan_or_none(self, source, batches, tmp_path):
        wide = Batch(torch.zeros(64, 1, 32, 32))
        assert isinstance(self.attempt(tmp_path, source, batches, wide), ShapeMismatch)
        error = self.attempt(tmp_path, source, [wide], examples=64)
        assert isinstance(error, ShapeMismatch)
        assert "(1, 32, 32)" in str(error)
        broken = Batch(torch.full((64, 1, 28, 28), torch.nan))
        assert "NaN" in str(self.attempt(tmp_path, source, [broken], examples=64))
        error = self.attempt(tmp_path, source, batches, Batch(torch.zeros(0, 1, 28, 28)))
        assert "no examples were given" in str(error)

    def test_inputs_of_another_name(self, source, tmp_path):
        named = Batch({"pixels": torch.zeros(64, 1, 28, 28)})
        error = self.attempt(tmp_path, source, [named], examples=64)
        assert "the file takes inputs, and the calibration examples have pixels" in str(error)

    def test_an_older_file_stays_unless_it_may_be_replaced(self, source, batches, tmp_path):
        old = tmp_path / "out.onnx"
        old.write_bytes(b"older")
        error = self.attempt(tmp_path, source, batches)
        assert isinstance(error, ExportError)
        assert "say replace=True" in str(error)
        assert old.read_bytes() == b"older"
        int8_static(source, old, batches, validation(0, 4), replace=True)
        assert len(OnnxModel(old).names) == 10
        with pytest.raises(ExportError, match="is the source itself"):
            int8_static(source, source, batches, validation(0, 4), replace=True)

    def test_a_folder_that_cannot_be(self, source, batches, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ExportError, match="cannot be written"):
            int8_static(source, tmp_path / "file" / "a.onnx", batches, validation(0, 4))

    def test_a_file_with_nothing_to_quantise(self, tmp_path):
        source = shipped(
            Observed(nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())), tmp_path / "conv.onnx"
        )
        with pytest.raises(
            ExportError, match=r"nothing in conv\.onnx can be quantised by int8_dyn"
        ):
            int8_dynamic(source, tmp_path / "out.onnx", validation(0, 4))
        assert not (tmp_path / "out.onnx").exists()

    def test_logging_is_as_it_was(self, source, batches, tmp_path):
        before = logging.root.manager.disable
        int8_static(source, tmp_path / "a.onnx", batches, validation(0, 4))
        assert logging.root.manager.disable == before
