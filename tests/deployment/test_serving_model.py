"""Packages in memory: the same answers alone and together, and what is not taken."""

import asyncio
import json
import time

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)
from test_serving_base import LABELS, SHAPE, graph, package

from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.serving import batching
from tutelage.deployment.serving.batching import Batcher, Item, answered
from tutelage.deployment.serving.exits import Exits
from tutelage.deployment.serving.gate import Gate
from tutelage.deployment.serving.model import ServedModel
from tutelage.deployment.serving.refused import Refused
from tutelage.deployment.serving.sources import resolver
from tutelage.evaluation import ExitPolicy

DRAWN = np.random.default_rng(1).random((40, *SHAPE)).astype(np.float32)


class Calibration(CalibrationDataReader):
    def __init__(self):
        self.rows = iter(DRAWN[:20])

    def get_next(self):
        row = next(self.rows, None)
        return None if row is None else {"inputs": row[None]}


def quantized(tmp_path, how):
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(graph(), str(source))
    if how == "static":
        quantize_static(str(source), str(target), Calibration(), quant_format=QuantFormat.QDQ)
    else:
        quantize_dynamic(str(source), str(target))
    return onnx.load(str(target))


def made(tmp_path, how):
    model = graph() if how == "float" else quantized(tmp_path, how)
    return ServedModel.load(package(tmp_path / "p", model))


@pytest.mark.parametrize("how", ["float", "static", "dynamic"])
def test_an_answer_does_not_depend_on_its_neighbours(tmp_path, how):
    model = made(tmp_path, how)
    alone = np.concatenate([model.answer({"inputs": row[None]}) for row in DRAWN])
    together = model.answer({"inputs": DRAWN})
    assert (alone.argmax(-1) == together.argmax(-1)).all()
    assert np.abs(alone - together).max() <= 1e-5 * np.abs(alone).max()
    assert model.alone == (how == "dynamic")


def test_requests_of_one_moment_share_a_run_and_get_their_own_rows(tmp_path):
    model, sizes = made(tmp_path, "float"), []

    async def ask():
        loop = asyncio.get_running_loop()
        batcher = Batcher(16, 0.01, lambda count, oldest, now: sizes.append(count))
        ends = np.cumsum([1, 2, 3, 1, 5, 1])
        parts = np.split(DRAWN[: ends[-1]], ends[:-1])
        items = [Item(model, {"inputs": each}, 0.0, loop.create_future()) for each in parts]
        for item in items:
            batcher.submit(item)
        found = [await item.answer for item in items]
        batcher.close()
        return parts, found

    parts, found = asyncio.run(ask())
    assert sizes == [13]
    for part, logits in zip(parts, found, strict=True):
        np.testing.assert_allclose(logits, model.answer({"inputs": part}), rtol=1e-5)


@pytest.mark.parametrize(("short", "threads"), [(1e9, 1), (0.0, 3)])
def test_a_quick_model_runs_in_the_event_loop_once_its_time_is_known(
    tmp_path, monkeypatch, short, threads
):
    model, handed = made(tmp_path, "float"), []
    monkeypatch.setattr(batching, "SHORT", short)

    async def ask():
        loop = asyncio.get_running_loop()
        batcher = Batcher(16, 0.01, lambda count, oldest, now: None)
        monkeypatch.setattr(
            batcher, "_work", lambda batch, work=batcher._work: (handed.append(1), work(batch))
        )
        for _ in range(3):
            item = Item(model, {"inputs": DRAWN[:1]}, 0.0, loop.create_future())
            batcher.submit(item)
            logits = await item.answer
            np.testing.assert_allclose(logits, model.answer({"inputs": DRAWN[:1]}), rtol=1e-5)
        batcher.close()

    asyncio.run(ask())
    assert len(handed) == threads


def test_an_input_that_the_model_cannot_answer_spoils_no_other(tmp_path):
    model = ServedModel.load(package(tmp_path / "p", graph(pole=True)))
    bad = np.zeros((1, *SHAPE), np.float32)
    bad[0, 0, 0, 0] = 0.5
    batch = [Item(model, {"inputs": each}, 0.0, None) for each in (DRAWN[:1], bad, DRAWN[1:3])]
    first, refused, last = answered(batch, 8)
    assert isinstance(refused, Refused)
    np.testing.assert_allclose(first, model.answer({"inputs": DRAWN[:1]}), rtol=1e-5)
    np.testing.assert_allclose(last, model.answer({"inputs": DRAWN[1:3]}), rtol=1e-5)


class Fails:
    """A model that raises where an example is 9, as ONNX Runtime does for a token out of bounds."""

    def answer(self, inputs):
        if (inputs["x"] == 9).any():
            raise RuntimeError("out of bounds")
        return inputs["x"].astype(float)


def test_a_run_that_fails_is_repeated_one_by_one():
    model = Fails()
    batch = [Item(model, {"x": np.array([[each]])}, 0.0, None) for each in (1, 9, 2)]
    first, refused, last = answered(batch, 8)
    assert (first.tolist(), last.tolist()) == ([[1.0]], [[2.0]])
    assert refused.status == 422


@pytest.mark.parametrize("measure", ["max_softmax", "entropy"])
def test_exits_are_taken_as_in_torch(measure):
    drawn = [torch.randn(200, 5, generator=torch.Generator().manual_seed(i)) * 3 for i in range(3)]
    policy = ExitPolicy((0.7, None), (1.0, 2.0, 3.0), measure=measure)
    expected = policy.apply(drawn)[0]
    found = Exits((0.7, None), measure).apply([each.numpy() for each in drawn])
    np.testing.assert_array_equal(found, expected.numpy())
    assert not np.array_equal(found, drawn[-1].numpy())


def test_packages_that_are_not_whole_are_refused(tmp_path):
    folder = package(tmp_path / "p")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    with pytest.raises(PackageError, match="unsigned, a key was given"):
        ServedModel.load(folder, key=tmp_path / "key")
    (folder / "student.onnx").write_bytes((folder / "student.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(PackageError, match=r"student\.onnx is not what was packed"):
        ServedModel.load(folder)
    with pytest.raises(PackageError, match="names a label twice"):
        ServedModel.load(package(tmp_path / "q", labels=["a", "b", "a"]))


def test_signed_packages_are_held_to_their_key(tmp_path):
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_bytes(bytes(range(32)))
    other.write_bytes(bytes(range(1, 33)))
    folder = package(tmp_path / "p", key=key)
    assert ServedModel.load(folder, key=key).labels == tuple(LABELS)
    with pytest.raises(PackageError, match="signed by somebody else"):
        ServedModel.load(folder, key=other)


def test_words_become_packages(tmp_path):
    folder = package(tmp_path / "package")
    digest, place = resolver(str(tmp_path))()
    assert (place, digest) == (folder, ServedModel.load(folder).digest)
    zipped = package(tmp_path / "p.zip")
    assert resolver(str(zipped))()[0] == ServedModel.load(zipped).digest
    (tmp_path / "run").mkdir()
    with pytest.raises(RecipeError, match="holds none: tutelage package"):
        resolver(str(tmp_path / "run"))


def test_labels_and_manifest_decide_the_version(tmp_path):
    first, second = package(tmp_path / "a"), package(tmp_path / "b", graph(seed=1))
    assert resolver(str(first))()[0] != resolver(str(second))()[0]
    assert json.loads((first / "labels.json").read_text())["labels"] == LABELS


def test_the_gate_lets_bursts_in_and_holds_a_load_that_does_not_end():
    gate = Gate(most=100, allowed=0.002, each=0.001)
    assert gate.limit == 3
    burst = sum(gate.enter() for _ in range(60))
    assert burst == 3 + 24
    now, slow = 0.0, 0
    for _ in range(3000):  # ten ask for each that is answered
        now += 0.001
        gate.leave(1)
        gate.done(1, began=now - 0.002, now=now)
        for _ in range(10):
            slow += gate.waiting >= gate.limit and gate.enter()
            gate.waiting >= gate.limit or gate.enter()
    assert slow < 0.01 * 3000
    assert gate.waiting <= gate.limit + 1
    assert gate.shed > 20_000
    gate.leave(gate.waiting)
    time.sleep(0.1)  # idle: a burst is welcome again
    assert sum(gate.enter() for _ in range(60)) > 3 * gate.limit
