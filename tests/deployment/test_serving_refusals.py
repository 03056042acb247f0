"""Wrong requests get a 4xx with one line, and the server goes on."""

import io
import json
import socket
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from test_serving_base import IMAGE, saved, server  # noqa: F401  # a fixture

from tutelage.deployment.serving.inputs import fitted
from tutelage.deployment.serving.model import Stated
from tutelage.deployment.serving.protocol import sweep
from tutelage.deployment.serving.refused import Refused

JSON, NPY, PNG = "application/json", "application/octet-stream", "image/png"
DEEP = b'{"inputs": ' + b"[" * 40_000 + b"]" * 40_000 + b"}"


def changed(value):
    array = np.array(IMAGE)
    array[0, 0, 0] = value
    return array


def sent(inputs):
    return json.dumps({"inputs": inputs}).encode()


def header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": "<f4"}
    )
    return file.getvalue()


def png(size=(4, 4), mode="L", kind="PNG"):
    file = io.BytesIO()
    Image.new(mode, size, 128 if mode == "L" else None).save(file, kind)
    return file.getvalue()


def bomb():
    """A PNG that says it has 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    made = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


WRONG = {
    "no JSON": (400, JSON, b"{", "no JSON"),
    "nested deep": (400, JSON, DEEP, "nested too deep"),
    "NaN": (400, JSON, sent(changed(float("nan")).tolist()), "NaN is no number that JSON knows"),
    "not UTF-8": (400, JSON, b'{"inputs": "\xff"}', "no JSON"),
    "a list": (422, JSON, b"[]", 'send {"inputs"'),
    "another key": (422, JSON, b'{"inputs": [], "lable": 1}', "'lable' is not known"),
    "infinity": (422, JSON, sent(IMAGE).replace(b"0.0,", b"1e999,", 1), "infinite"),
    "range": (422, JSON, sent(changed(37.0).tolist()), "divide stored bytes by 255"),
    "shape": (422, JSON, sent([[1, 2], [3, 4]]), "has the shape (2, 2), and (1, 4, 4) is one"),
    "ragged": (422, JSON, sent([[1, 2], [3]]), "no even block"),
    "texts": (422, JSON, sent([["1", "2"]]), "no number"),
    "true": (422, JSON, sent((np.array(IMAGE) > 0).tolist()), "true and false"),
    "large integers": (422, JSON, sent([10**30]), "no number"),
    "null": (422, JSON, b'{"inputs": null}', "no number"),
    "none": (422, JSON, sent([]), "has the shape (0)"),
    "another name": (422, JSON, sent({"input": IMAGE}), "Did you mean 'inputs'?"),
    "top": (422, JSON, b'{"inputs": [], "top": 0}', "top is a whole number"),
    "too many": (413, NPY, saved(np.zeros((300, 1, 4, 4), np.float32)), "at most 256"),
    "too large": (413, JSON, b" " * 200_000, "larger than 104,857 bytes"),
    "no npy": (400, NPY, b"abc", "no .npy file"),
    "pickle": (422, NPY, saved(np.array([{}], object)), "send numbers"),
    "npy of NaN": (422, NPY, saved(np.full((1, 4, 4), np.nan)), "NaN or infinite"),
    "too large for float32": (422, NPY, saved(np.full((1, 4, 4), 1e300)), "infinite"),
    "npy that lies": (400, NPY, header((10**12,)), "its header says otherwise"),
    "npy below zero": (400, NPY, header((-1,)), "its header says otherwise"),
    "no image": (422, PNG, b"abc", "no whole PNG or JPEG"),
    "half an image": (422, PNG, png((64, 64), "RGB")[:-60], "whole"),
    "another image": (422, PNG, png(kind="GIF"), "no whole PNG or JPEG"),
    "a bomb": (422, PNG, bomb(), "make it smaller"),
    "16 bits": (422, PNG, png(mode="I;16"), "more than 8 bits"),
    "broken form": (400, "multipart/form-data; boundary=x", b"--x\r\n", "form is broken"),
    "form of none": (400, "multipart/form-data", b"", "names no boundary"),
    "type": (415, "text/plain", b"", "text/plain is not taken"),
    "no type": (415, "", b"", "no content type is not taken"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bodies_get_one_line(server, name):  # noqa: F811
    status, kind, body, told = WRONG[name]
    answer = server.client.post("/v1/predict", content=body, headers={"content-type": kind})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert told in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_wrong_paths_and_methods(server):  # noqa: F811
    lost, wrong = server.client.get("/v2"), server.client.get("/v1/predict")
    assert (lost.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["allow"] == "POST"
    assert server.client.put("/healthz").status_code == 405
    assert "there is no '/v2'" in lost.json()["error"]
    query = server.client.post(
        "/v1/predict?lable=1", content=saved(IMAGE), headers={"content-type": NPY}
    )
    assert (query.status_code, query.json()["error"][:8]) == (422, "'lable' ")


def test_images_come_as_files_and_forms(server):  # noqa: F811
    one = server.client.post(
        "/v1/predict", content=png((9, 7), "RGB"), headers={"content-type": PNG}
    )
    files = [("image", ("a.png", png(), PNG)), ("image", ("b.jpg", png(kind="JPEG"), "image/jpeg"))]
    two = server.client.post("/v1/predict?logits=1", files=files).json()["predictions"]
    grey = server.ask((np.full((1, 4, 4), 128) / 255).tolist(), logits=True).json()["predictions"]
    assert one.status_code == 200
    assert len(two) == 2
    np.testing.assert_allclose(two[0]["logits"], grey[0]["logits"], rtol=1e-5)


def raw(server, content):  # noqa: F811
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as end:
        end.sendall(content)
        return end.recv(65_536)


def test_what_is_no_http_and_heads_without_end(server):  # noqa: F811
    assert raw(server, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    long = b"GET /healthz HTTP/1.1\r\n" + b"a: " + b"b" * 70_000 + b"\r\n\r\n"
    assert raw(server, long).startswith(b"HTTP/1.1 400 ")
    large = b"POST /v1/predict HTTP/1.1\r\ncontent-type: application/json\r\n"
    said = raw(server, large + b"content-length: 99999999999\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413 ")  # from the head alone
    endless = (
        large + b"transfer-encoding: chunked\r\n\r\n" + (b"fff\r\n" + b" " * 4095 + b"\r\n") * 40
    )
    assert raw(server, endless).startswith(b"HTTP/1.1 413 ")
    assert server.client.get("/readyz").status_code == 200


class Connection:
    """What `sweep` sees of one."""

    def __init__(self, since, closing=False):
        self.since, self.doomed, self.transport, self.said = since, False, self, b""
        self.closing = self.aborted = False
        self.closing = closing

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.said += data

    def close(self):
        self.closing = True

    def abort(self):
        self.aborted = True


def test_slow_clients_are_sent_away():
    now = time.monotonic()
    slow, fast, silent = Connection(now - 11), Connection(now - 1), Connection(None)
    for _ in range(3):
        sweep({slow, fast, silent}, 10)
    assert slow.said.startswith(b"HTTP/1.1 408 ")
    assert slow.aborted  # it does not read its answer either
    assert not fast.closing
    assert not silent.closing


def test_tokens_are_whole_numbers_within_their_type():
    stated = {"tokens": Stated((2,), "int32", None)}
    assert fitted({"tokens": np.array([1, 2])}, stated, 8)["tokens"].dtype == np.int32
    for wrong, told in ([1.5, 2], "whole numbers"), ([2**40, 1], "no int32 can hold"):
        with pytest.raises(Refused, match=told):
            fitted({"tokens": np.array(wrong)}, stated, 8)


def test_inputs_of_one_request_are_equally_many():
    stated = {name: Stated((2,), "float32", None) for name in "ab"}
    with pytest.raises(Refused, match="inputs differ in number: 1 of a, 3 of b"):
        fitted({"a": np.zeros((1, 2)), "b": np.zeros((3, 2))}, stated, 8)
    with pytest.raises(Refused, match="the input 'b' is missing"):
        fitted({"a": np.zeros(2)}, stated, 8)
