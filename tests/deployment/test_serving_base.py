"""Small packages, a real server in a process of its own, and what it does at its simplest."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tutelage.deployment.package import pack

LABELS = ["cat", "dog", "owl"]
SHAPE = [1, 4, 4]
_WHOLE = (
    "import atexit, sys\n"
    "atexit.register(lambda: print('LOADED', [n for n in ('torch', 'onnxruntime') "
    "if n in sys.modules]))\n"
    "from tutelage.cli.main import main\n"
    "main()\n"
)


def graph(seed=0, slow=0, pole=False):
    """A linear model of 4 x 4 images; ``slow``: size of a product that it also computes."""
    weights = np.random.default_rng(seed).normal(size=(16, 3)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["inputs"], ["flat"])]
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["linear"]))
    last = "linear"
    first = {"half": np.array(0.5, np.float32), "w": weights, "zero": np.array(0, np.float32)}
    if slow:
        nodes += [
            helper.make_node("RandomNormal", [], ["noise"], shape=[slow, slow], dtype=1),
            helper.make_node("MatMul", ["noise", "noise"], ["square"]),
            helper.make_node("ReduceMax", ["square"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
            helper.make_node("Add", [last, "nothing"], ["slowly"]),
        ]
        last = "slowly"
    if pole:  # answers inputs whose sum is 0.5 with infinity
        nodes += [
            helper.make_node("ReduceL1", ["flat", "axis"], ["sum"], keepdims=1),
            helper.make_node("Sub", ["half", "sum"], ["gap"]),
            helper.make_node("Div", [last, "gap"], ["steep"]),
        ]
        first["axis"], last = np.array([1], np.int64), "steep"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in first.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def package(path, model=None, *, labels=LABELS, inputs=None, more=None, key=None, name="pets"):
    """A package as `tutelage package` makes it, of an ONNX model."""
    stated = {"inputs": {"shape": SHAPE, "dtype": "float32", "range": [0, 1]}}
    onnx_file = path.parent / f"{path.name}.onnx"
    onnx.save(model or graph(), str(onnx_file))
    files = {
        "student.onnx": onnx_file,
        "preprocessing.json": {"inputs": inputs or stated, "temperature": None},
        "labels.json": {"labels": list(labels)},
        **{f"{each}.md": "# a card\n" for each in ("MODEL_CARD", "DATA_CARD", "nist_ai_rmf")},
        **{each: {} for each in ("report.json", "sbom.json")},
        **(more or {}),
    }
    run = {"name": name, "identity": "0" * 64, "data": {}}
    pack(files, path, run=run, version="0", date="2026-01-31", key=key, force=True)
    onnx_file.unlink()
    return path


class Server:
    """``tutelage serve`` in a process; its log as it grows."""

    def __init__(self, place, *arguments):
        self._log, self._said = place / "server.log", place / "server.out"
        with self._log.open("wb") as log, self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _WHOLE, "serve", *map(str, arguments), "--port", "0"],
                stdout=said,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self.url = self.wait("serving")["url"]
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def lines(self):
        text = self._log.read_text().splitlines()
        return [json.loads(line) for line in text if line.startswith("{")]

    def wait(self, event, seconds=40, **facts):
        """The first line of the log about ``event`` with these facts."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.lines():
                if line["event"] == event and facts.items() <= line.items():
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {event} {facts}: {self._log.read_text()}")

    def ask(self, inputs, client=None, **more):
        return (client or self.client).post("/v1/predict", json={"inputs": inputs, **more})

    def metrics(self):
        rows = self.client.get("/metrics").text.splitlines()
        pairs = [row.rsplit(" ", 1) for row in rows if not row.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def stop(self):
        """Exit status, and what the process said at its end."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20), self._said.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("serve")
    made = Server(place, package(place / "pets.zip"), "--max-body-mb", "0.1", "--access-log")
    yield made
    made.stop()


IMAGE = (np.arange(16).reshape(SHAPE) / 16).tolist()


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_an_answer_names_model_version_and_probabilities(server):
    answer = server.ask(IMAGE, logits=True).json()
    (found,) = answer["predictions"]
    weights = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    logits = np.float32(IMAGE).reshape(1, 16) @ weights
    np.testing.assert_allclose(found["logits"], logits[0], rtol=1e-5)
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert list(found["probabilities"]) == LABELS
    np.testing.assert_allclose(list(found["probabilities"].values()), shares, rtol=1e-5)
    assert found["label"] == LABELS[shares.argmax()]
    assert answer["model"] == "pets"
    assert answer["version"] == server.client.get("/v1/model").json()["digest"][:12]


def test_several_examples_and_their_top_class(server):
    answer = server.ask([IMAGE, IMAGE], top=1).json()
    assert [len(each["probabilities"]) for each in answer["predictions"]] == [1, 1]
    assert "logits" not in answer["predictions"][0]


@pytest.mark.parametrize("dtype", ["float32", ">f8", "float16"])
def test_npy_answers_as_json_does(server, dtype):
    array = np.asfortranarray(np.array([IMAGE, IMAGE], dtype))
    kind = {"content-type": "application/octet-stream"}
    answer = server.client.post("/v1/predict?logits=1", content=saved(array), headers=kind).json()
    expected = server.ask(IMAGE, logits=True).json()["predictions"][0]["logits"]
    for each in answer["predictions"]:
        np.testing.assert_allclose(each["logits"], expected, rtol=1e-3)


def test_paths_of_life(server):
    assert server.client.get("/healthz").json() == {"alive": True}
    assert server.client.get("/readyz").json() == {"ready": True}
    assert server.client.head("/healthz").content == b""
    assert server.client.get("/v1/model").json()["labels"] == LABELS


def test_metrics_count_what_was_answered(server):
    before = server.metrics()
    server.ask([IMAGE] * 3)
    after = server.metrics()
    name = "tutelage_request_seconds_count"
    assert after[name] == before[name] + 1
    assert after["tutelage_confidence_count"] == before["tutelage_confidence_count"] + 3
    assert (
        after['tutelage_batch_size_bucket{le="4.0"}']
        > before['tutelage_batch_size_bucket{le="4.0"}']
    )
    predicted = [v for k, v in after.items() if k.startswith("tutelage_predictions_total")]
    assert sum(predicted) == after["tutelage_confidence_count"]
    assert after['tutelage_request_seconds_window{quantile="0.99"}'] > 0
    assert after["tutelage_waiting"] == 0
    assert server.wait("access", path="/metrics")["status"] == 200


def test_the_server_stops_as_told_and_never_loaded_torch(tmp_path):
    made = Server(tmp_path, package(tmp_path / "pets"))
    assert made.ask(IMAGE).status_code == 200
    status, said = made.stop()
    assert (status, said) == (0, "LOADED ['onnxruntime']\n")
    assert made.lines()[-1]["event"] == "stopped"
    assert not [line for line in made.lines() if line["event"] in ("failed", "access")]
