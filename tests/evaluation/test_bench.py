"""Models measured in use: planted costs are found, and what a file cannot do is said."""

import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError, ShapeMismatch
from tutelage.evaluation.costs import cold_child
from tutelage.evaluation.costs.bench import Subject, bench, shipped_bytes
from tutelage.evaluation.costs.cold import Start, cold, onnx_start
from tutelage.evaluation.costs.cold_child import first_answer
from tutelage.evaluation.costs.latency import Effort, Latency, measure_latency
from tutelage.evaluation.costs.limits import Conditions, cores, preset
from tutelage.evaluation.onnx_model import OnnxModel

WIDTH = 64
MEGABYTE = 1_000_000


def save(path, layers, batch="n", *, outside=False):
    """A file of so many square layers of 64 numbers."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.eye(WIDTH, dtype=np.float32)
    names = [f"x{number}" for number in range(layers + 1)]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [a, f"w{number}"], [b])
            for number, (a, b) in enumerate(pairwise(names))
        ],
        "layers",
        [helper.make_tensor_value_info(names[0], kind, [batch, WIDTH])],
        [helper.make_tensor_value_info(names[-1], kind, [batch, WIDTH])],
        [onnx.numpy_helper.from_array(weights + n, f"w{n}") for n in range(layers)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path, save_as_external_data=outside, location="weights.bin")
    return path


def subject(path, name=None):
    return Subject(name or path.stem, OnnxModel(path), onnx_start(path), path)


def measured(subjects, conditions=None, rows=4, **options):
    options = {"seconds": 0.5, "starts": 1, **options}
    return bench(subjects, Batch(torch.rand(rows, WIDTH)), conditions or Conditions(), **options)


class TestLatency:
    def test_the_90th_percentile_lies_where_it_should(self, monkeypatch):
        ticks = iter(range(100))
        clock = iter([0.0, *(t for tick in ticks for t in (0.0, (tick + 1) / 1000)), *[1.0] * 99])
        monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
        found = measure_latency(
            {"planted": lambda: None},
            backend="python",
            effort=Effort(warmup=0, calls=100, turn=100, seconds=1e9),
        )["planted"]
        assert (found.p50, found.p90) == pytest.approx((50.5, 90.1))

    def test_figures_of_before_stay_as_they_were(self):
        old = Latency(1.0, 2.0, "torch", 1, 1, 300)
        assert list(old.as_dict()) == ["p50", "p99", "backend", "threads", "batch", "calls"]


class TestFirstAnswer:
    def test_planted_time_and_memory_are_found(self):
        def load():
            time.sleep(0.05)
            return bytearray(b"x" * (40 * MEGABYTE))

        def answer(model):
            time.sleep(0.02)

        found = first_answer(load, answer)
        assert found["load_ms"] >= 50
        assert found["first_ms"] >= 20
        if found["memory_bytes"] is not None:  # the literal and its copy, both alive at once
            assert 70 * MEGABYTE < found["memory_bytes"] < 100 * MEGABYTE

    def test_an_older_peak_is_no_growth(self):
        held = bytearray(b"x" * (60 * MEGABYTE))
        del held
        found = first_answer(lambda: None, lambda model: None)
        assert found["memory_bytes"] is None or found["memory_bytes"] < 5 * MEGABYTE

    def test_where_the_system_does_not_tell_there_is_no_figure(self, monkeypatch, tmp_path):
        monkeypatch.setattr(cold_child, "STATUS", tmp_path / "nothing")
        assert first_answer(lambda: 1, lambda model: 1)["memory_bytes"] is None

    def test_the_process_of_an_onnx_file_holds_no_torch(self):
        code = (
            "import runpy, sys, onnxruntime;"
            f"runpy.run_path({cold_child.__file__!r});"
            "print('torch' in sys.modules, 'tutelage' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "False False\n"

    def test_a_child_that_fails_is_told_in_one_line(self):
        start = Start((sys.executable, "-c", "raise OSError('the disk is gone')"), {})
        with pytest.raises(ModelError, match=r"^sick cannot be started .* the disk is gone$"):
            cold(start, "sick", {})


class TestBench:
    def test_the_heavier_model_costs_more_in_every_way(self, tmp_path):
        light, heavy = save(tmp_path / "light.onnx", 1), save(tmp_path / "heavy.onnx", 80)
        found = measured([subject(light), subject(heavy)], Conditions((1, 256), (1,)), seconds=2)
        one, other = found["models"]
        assert one["file_bytes"] == light.stat().st_size
        assert (one["parameters"], other["parameters"]) == (WIDTH**2, 80 * WIDTH**2)
        for row in other["ratios"]["warm"]:
            assert row["p50"] > 3
        assert other["ratios"]["file_bytes"] > 50
        assert other["ratios"]["cold"]["load_ms"] > 1
        assert set(one["ratios"]["cold"].values()) <= {1.0, None}
        for row in (*one["warm"], *other["warm"]):
            assert 0 < row["p50"] <= row["p90"] <= row["p99"]
            assert row["examples_per_second"] == pytest.approx(1000 * row["batch"] / row["p50"])
            assert row["backend"] == "onnxruntime"
        assert [(row["threads"], row["batch"]) for row in one["warm"]] == [(1, 1), (1, 256)]
        assert one["cold"]["starts"] == 1
        assert one["cold"]["first_ms"] > 0

    def test_a_file_that_takes_one_at_a_time_is_measured_so(self, tmp_path):
        both = [
            subject(save(tmp_path / "any.onnx", 1)),
            subject(save(tmp_path / "one.onnx", 1, batch=1)),
        ]
        found = measured(both, Conditions((8, 1), (1,)))
        assert [row["batch"] for row in found["models"][0]["warm"]] == [8, 1]
        assert [row["batch"] for row in found["models"][1]["warm"]] == [1]
        assert found["models"][1]["cold"]["batch"] == 1
        assert any(note.startswith("one has no figure for batch 8: ") for note in found["notes"])
        with pytest.raises(ShapeMismatch, match="one answers no batch"):
            measured([both[1]], Conditions((8,), (1,)))

    def test_weights_beside_the_file_are_counted(self, tmp_path):
        path = save(tmp_path / "split.onnx", 4, outside=True)
        together = path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
        assert shipped_bytes(path) == together > 4 * 4 * WIDTH**2

    def test_more_threads_than_cores_are_noted(self, tmp_path):
        many = cores() + 1
        path = save(tmp_path / "a.onnx", 1)
        found = measured([subject(path)], Conditions((1,), (many,)))
        assert any(
            note.startswith(f"{many} threads share the {cores()}") for note in found["notes"]
        )
        assert found["models"][0]["warm"][0]["threads"] == many

    @pytest.mark.parametrize("options", [{"seconds": 0.0}, {"starts": 0}, {"rows": 0}])
    def test_nothing_to_measure_is_refused(self, options, tmp_path):
        with pytest.raises(DataError, match="needs a model, an example"):
            measured([subject(save(tmp_path / "a.onnx", 1))], **options)


class TestLimits:
    def test_presets_are_limits_of_threads_and_batch(self):
        assert (preset("phone").threads, preset("phone").batches) == ((1,), (1,))
        assert preset("pi").threads == (min(4, cores()),)
        assert (preset("server").threads, preset("server").batches) == ((cores(),), (1, 8, 32))

    def test_a_wrong_preset_names_the_nearest(self):
        with pytest.raises(DataError, match=r"'fone'.*phone"):
            preset("fone")

    @pytest.mark.parametrize("numbers", [{"batches": (0,)}, {"threads": ()}])
    def test_numbers_below_one_are_refused(self, numbers):
        with pytest.raises(DataError, match="at least 1"):
            Conditions(**numbers)
