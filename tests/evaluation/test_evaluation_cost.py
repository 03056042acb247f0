"""Costs against formulas by hand and published counts; latency against a clock that is known."""

import time

import pytest
import torch
import torch.nn.functional as F
from evaluation_samples import resnet20
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.evaluation import (
    Effort,
    file_bytes,
    macs,
    measure_latency,
    onnx_latency,
    parameters,
    torch_latency,
    weight_bytes,
)
from tutelage.models import Observed


class Last(nn.Module):
    """The last step of a recurrent network."""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        return self.recurrent(x)[0][:, -1]


def test_an_example_that_the_model_cannot_read_is_refused_in_one_line():
    with pytest.raises(ModelError, match=r"cannot answer the example that .* shapes") as caught:
        macs(Observed(nn.Linear(4, 3)), Batch(torch.zeros(2, 5)))
    assert "\n" not in str(caught.value)


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def cost(model, *shape):
    return macs(Observed(model), Batch(torch.rand(3, *shape)))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )


class TestMacs:
    def test_resnet20_has_the_published_cost(self):
        stages = 6 * 32 * 32 * 16 * 16 * 9
        stages += 16 * 16 * 16 * 32 * 9 + 5 * 16 * 16 * 32 * 32 * 9
        stages += 8 * 8 * 32 * 64 * 9 + 5 * 8 * 8 * 64 * 64 * 9
        shortcuts = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
        by_hand = 32 * 32 * 3 * 16 * 9 + stages + shortcuts + 64 * 10
        assert cost(resnet20(), 3, 32, 32) == by_hand
        assert by_hand / 1e6 == pytest.approx(40.81, abs=0.005)  # as published with 1x1 shortcuts
        assert (by_hand - shortcuts) / 1e6 == pytest.approx(40.55, abs=0.005)  # and without

    def test_lenet5_has_the_published_cost(self):
        by_hand = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
        assert cost(lenet(), 1, 28, 28) == by_hand == 416_520

    def test_the_cost_is_of_one_example_however_many_are_given(self):
        model = Observed(nn.Linear(4, 3))
        assert macs(model, Batch(torch.rand(1, 4))) == macs(model, Batch(torch.rand(9, 4))) == 12

    @pytest.mark.parametrize(
        ("model", "shape", "by_hand"),
        [
            (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 5, 5), 25 * 6 * 9),
            (nn.Conv2d(4, 8, 3, stride=2, dilation=2, groups=2), (4, 9, 9), 3 * 3 * 8 * 2 * 9),
            (nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 5, 5), 25 * 3 * 4 * 9),
            (nn.Conv1d(6, 8, 3), (6, 5), 3 * 6 * 8 * 3),
            (Last(nn.GRU(4, 5, batch_first=True)), (3, 4), 3 * 3 * (5 * 4 + 5 * 5)),
            (
                Last(nn.GRU(4, 5, num_layers=2, bidirectional=True, batch_first=True)),
                (7, 4),
                7 * 2 * 3 * (5 * 4 + 5 * 5) + 7 * 2 * 3 * (5 * 10 + 5 * 5),
            ),
            (Last(nn.LSTM(4, 5, batch_first=True)), (3, 4), 3 * 4 * (5 * 4 + 5 * 5)),
            (Last(nn.RNN(4, 5, batch_first=True)), (3, 4), 3 * (5 * 4 + 5 * 5)),
            (
                nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
                (3, 8),
                3 * 8 * 24 + 3 * 8 * 8 + 2 * 3 * 3 * 8 + 2 * 3 * 8 * 16,
            ),
            (
                Does(lambda x: F.scaled_dot_product_attention(x, x, x)),
                (2, 5, 8),
                2 * 5 * 5 * (8 + 8),
            ),
            (Does(lambda x: torch.einsum("bij,bkj->bik", x, x)), (5, 8), 5 * 5 * 8),
        ],
    )
    def test_layers_cost_what_their_formula_says(self, model, shape, by_hand):
        assert cost(model, *shape) == by_hand

    def test_the_usual_free_operations_cost_nothing(self):
        free = nn.Sequential(
            nn.BatchNorm2d(4),
            nn.GroupNorm(2, 4),
            nn.Hardswish(),
            nn.GELU(),
            nn.ReLU6(),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.PixelShuffle(2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.LayerNorm(4),
            nn.Dropout(),
            nn.Softmax(-1),
            nn.Linear(4, 2),
        )
        assert cost(free, 4, 8, 8) == 4 * 2

    def test_an_operation_of_unknown_cost_is_an_error_that_names_it(self):
        with pytest.raises(ModelError, match="aten::_fft_r2c") as caught:
            cost(nn.Sequential(nn.Linear(8, 8), Does(lambda x: torch.fft.rfft(x).abs())), 8)
        assert "\n" not in str(caught.value)

    def test_a_model_without_any_counted_operation_is_an_error_never_0(self):
        with pytest.raises(ModelError, match="ran no matrix product"):
            cost(nn.BatchNorm1d(8), 8)

    def test_counting_leaves_modes_and_statistics_as_they_were(self):
        model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))
        model[1].eval()
        before = model[0].running_mean.clone()
        cost(model, 8)
        assert (model[0].training, model[1].training) == (True, False)
        assert torch.equal(model[0].running_mean, before)
        assert torch.backends.mha.get_fastpath_enabled()


class TestSize:
    def test_parameters_are_counted_once_and_frozen_ones_told_apart(self):
        shared = nn.Linear(4, 4)
        model = nn.Sequential(shared, shared, nn.Linear(4, 2).requires_grad_(False))
        assert parameters(model).total == 20 + 10
        assert parameters(model).trainable == 20

    def test_bytes_hold_statistics_and_are_those_of_32_bits(self):
        norm = nn.BatchNorm1d(3)  # weight, bias, mean, variance; a count of batches in 64 bits
        assert weight_bytes(norm) == 4 * 3 * 4 + 8
        assert weight_bytes(nn.Linear(3, 2).half()) == 32
        shared = nn.Linear(3, 2)
        assert weight_bytes(nn.Sequential(shared, shared)) == 32

    def test_a_file_has_the_bytes_it_has_and_none_is_an_error(self, tmp_path):
        path = tmp_path / "weights.bin"
        path.write_bytes(b"12345")
        assert file_bytes(path) == 5
        with pytest.raises(ModelError, match="there is no file"):
            file_bytes(tmp_path / "other")


class TestLatency:
    def test_percentiles_are_those_of_the_calls(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])
        durations = iter([9.0] * 2 + [0.001 * (1 + i) for i in range(101)])

        def call():
            now[0] += next(durations)

        effort = Effort(warmup=1, calls=101, turn=101, seconds=1000)
        found = measure_latency({"it": call}, backend="x", threads=2, batch=3, effort=effort)["it"]
        assert (found.p50, found.p99) == pytest.approx((51.0, 100.0))
        assert (found.backend, found.threads, found.batch, found.calls) == ("x", 2, 3, 101)

    def test_models_take_turns_and_the_order_turns_round(self):
        heard = []
        runs = {name: lambda name=name: heard.append(name) for name in "ab"}
        measure_latency(runs, backend="x", effort=Effort(warmup=0, calls=4, turn=2))
        assert "".join(heard) == "aaabbb" + "bbbaaa"

    def test_a_budget_ends_the_rounds_but_every_model_is_measured(self):
        runs = {name: lambda: time.sleep(0.02) for name in "abc"}
        start = time.perf_counter()
        found = measure_latency(runs, backend="x", effort=Effort(calls=1000, seconds=0.05))
        assert time.perf_counter() - start < 1
        assert all(1 <= latency.calls < 10 for latency in found.values())

    def test_torch_latency_restores_threads_and_modes(self):
        before = torch.get_num_threads()
        slow, fast = (Observed(nn.Linear(width, width)) for width in (1500, 10))
        models = {
            "slow": lambda batch: slow(Batch(torch.zeros(1, 1500))),
            "fast": fast,
        }
        seen = []
        models["probe"] = lambda batch: seen.append(
            (torch.get_num_threads(), fast.training, torch.is_inference_mode_enabled())
        )
        effort = Effort(warmup=2, calls=30)
        found = torch_latency(models, Batch(torch.zeros(1, 10)), threads=before + 1, effort=effort)
        assert found["slow"].p50 > found["fast"].p50 > 0
        assert found["slow"].p99 >= found["slow"].p50
        assert set(seen) == {(before + 1, False, True)}
        assert torch.get_num_threads() == before
        assert fast.training

    def test_an_onnx_file_is_measured_in_onnx_runtime(self, tmp_path):
        from onnx import TensorProto, checker, helper, save

        given = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", 3])
        result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
        node = helper.make_node("Relu", ["inputs"], ["logits"])
        graph = helper.make_graph([node], "relu", [given], [result])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        checker.check_model(model)
        save(model, tmp_path / "relu.onnx")
        example = Batch(torch.rand(4, 3))
        found = onnx_latency({"relu": tmp_path / "relu.onnx"}, example, effort=Effort(calls=20))
        latency = found["relu"]
        assert (latency.backend, latency.threads, latency.batch) == ("onnxruntime", 1, 4)
        assert 0 < latency.p50 <= latency.p99
        assert latency.calls == 20
        with pytest.raises(ModelError, match="there is no ONNX file"):
            onnx_latency({"none": tmp_path / "none.onnx"}, example)

    def test_an_effort_that_measures_nothing_is_refused(self):
        with pytest.raises(DataError, match="cannot be measured"):
            Effort(calls=0)
        with pytest.raises(DataError, match="threads is 0"):
            torch_latency({}, Batch(torch.zeros(1, 1)), threads=0)
