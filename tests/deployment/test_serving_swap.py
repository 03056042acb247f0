"""Versions change while requests go on, a candidate is compared, a token is asked for."""

import shutil
import threading
import time

import httpx
import numpy as np
import pytest
from test_serving_base import IMAGE, LABELS, SHAPE, Server, graph, package

from tutelage.core.errors import PackageError
from tutelage.deployment.serving.afterwards import Afterwards
from tutelage.deployment.serving.batching import Item
from tutelage.deployment.serving.holder import Holder
from tutelage.deployment.serving.metrics import Metrics
from tutelage.deployment.serving.model import ServedModel
from tutelage.deployment.serving.sources import digest_of

TOKEN = "correct-horse-battery-staple"


def expected(seed):
    weights = np.random.default_rng(seed).normal(size=(16, 3)).astype(np.float32)
    return (np.float32(IMAGE).reshape(1, 16) @ weights)[0]


def put(served, package_):
    """Replace a folder as a deployment would: a copy beside it, then two renames."""
    new, old = served.with_name("new"), served.with_name("old")
    shutil.copytree(package_, new)
    served.rename(old)
    new.rename(served)
    shutil.rmtree(old)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("swap")


@pytest.fixture(scope="module")
def server(place):
    package(place / "one", graph(seed=0))
    package(place / "two", graph(seed=1))
    shutil.copytree(place / "one", place / "served")
    (place / "token").write_text(TOKEN + "\n")
    words = ("--shadow", place / "two", "--shadow-share", "1", "--token-file", place / "token")
    made = Server(place, place / "served", *words)
    made.client.headers["authorization"] = f"Bearer {TOKEN}"
    yield made
    made.stop()


class Asking:
    """Asks without a pause until it is told to stop; each answer is held against its version."""

    def __init__(self, server, versions):
        self.server, self.versions, self.seen, self.wrong = server, versions, [], []
        self.on = True
        self.threads = [threading.Thread(target=self.ask) for _ in range(3)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        with httpx.Client(base_url=self.server.url, headers=self.server.client.headers) as client:
            while self.on:
                answer = self.server.ask(IMAGE, client, logits=True)
                if answer.status_code == 503:
                    continue
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
                    continue
                version = answer.json()["version"]
                logits = answer.json()["predictions"][0]["logits"]
                self.seen.append(version)
                if not np.allclose(logits, self.versions[version], rtol=1e-5):
                    self.wrong.append(answer.text)

    def stop(self):
        self.on = False
        for thread in self.threads:
            thread.join()


def test_another_version_takes_over_and_gives_back_and_no_request_is_lost(server, place):
    one, two = (digest_of(place / name)[:12] for name in ("one", "two"))
    asking = Asking(server, {one: expected(0), two: expected(1)})
    put(place / "served", place / "two")
    server.wait("swapped", version=two, before=one)
    time.sleep(0.2)
    put(place / "served", place / "one")
    server.wait("swapped", version=one, before=two)
    time.sleep(0.2)
    asking.stop()
    assert asking.wrong == []
    assert {one, two} == set(asking.seen)
    assert asking.seen[-1] == one
    assert server.metrics()["tutelage_swaps_total"] == 2


def test_a_broken_version_is_refused_and_the_old_one_goes_on(server, place):
    one = digest_of(place / "one")[:12]
    broken = package(place / "broken", graph(seed=2))
    (broken / "student.onnx").write_bytes(b"no onnx at all")
    before = server.metrics()["tutelage_refused_versions_total"]
    put(place / "served", broken)
    line = server.wait("refused", wanted=digest_of(broken)[:12])
    assert "student.onnx has 14 bytes" in line["why"]
    assert line["answering"] == one
    assert server.ask(IMAGE).json()["version"] == one
    assert server.client.get("/readyz").status_code == 200
    assert server.metrics()["tutelage_refused_versions_total"] > before
    put(place / "served", place / "one")


def test_the_candidate_is_compared_and_never_returned(server, place):
    for _ in range(20):
        assert server.ask(IMAGE).json()["version"] == digest_of(place / "one")[:12]
    end = time.monotonic() + 10
    key = 'tutelage_shadow_total{what="compared"}'
    while server.metrics()[key] < 20 and time.monotonic() < end:
        time.sleep(0.05)
    found = server.metrics()
    assert found[key] >= 20
    differs = expected(0).argmax() != expected(1).argmax()
    assert (found['tutelage_shadow_total{what="disagreed"}'] > 0) == differs
    gap = np.abs(expected(0) - expected(1)).max()
    assert found["tutelage_shadow_logit_difference_largest"] == pytest.approx(gap, rel=1e-4)


def test_callers_without_the_token_get_a_401_everywhere_but_at_healthz(server):
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        with httpx.Client(base_url=server.url, headers=header) as client:
            assert client.get("/healthz").status_code == 200
            for path in ("/readyz", "/metrics", "/v1/model", "/nowhere"):
                assert client.get(path).status_code == 401
            answer = server.ask(IMAGE, client)
            assert answer.status_code == 401
            assert answer.json() == {
                "error": "send the header Authorization: Bearer TOKEN, with the right one"
            }


def test_a_version_that_is_still_being_copied_is_taken_when_it_is_whole(tmp_path):
    package(tmp_path / "one"), package(tmp_path / "two", graph(seed=1))
    wanted, told = tmp_path / "one", []
    holder = Holder(lambda: (digest_of(wanted), wanted), told=told.append)
    holder.load()
    content = (tmp_path / "two" / "student.onnx").read_bytes()
    (tmp_path / "two" / "student.onnx").write_bytes(content[:50])
    wanted = tmp_path / "two"
    assert not holder.look()
    assert not holder.look()  # not looked into again so soon
    (tmp_path / "two" / "student.onnx").write_bytes(content)
    holder._failed.again = 0
    assert holder.look()
    assert told == [False, True]
    assert holder.model.digest == digest_of(wanted)


def test_a_source_that_fails_leaves_the_old_version(tmp_path, capsys):
    source = [package(tmp_path / "one")]
    holder = Holder(lambda: (digest_of(source[0]), source[0]))
    old = holder.load()
    source[0] = tmp_path / "gone"
    assert not holder.look()
    assert holder.model is old
    assert "cannot be read" in capsys.readouterr().err


class Records:
    """Stands in for `TrafficLog`."""

    made = []

    def __init__(self, version):
        self.version, self.rows, self.closed = version, [], False
        Records.made.append(self)

    def append(self, inputs, logits, *, shadow=None):
        if len(self.rows) == 2:
            raise OSError("the disk is full")
        self.rows.append((inputs, logits))

    def close(self):
        self.closed = True


def test_traffic_is_recorded_by_version_and_a_full_disk_is_counted(tmp_path):
    one = ServedModel.load(package(tmp_path / "one"))
    two = ServedModel.load(package(tmp_path / "two", graph(seed=1)))
    metrics = Metrics()
    after = Afterwards(metrics, lambda: None, 0.0, Records)
    inputs = {"inputs": np.zeros((2, *SHAPE), np.float32)}
    for model in (one, one, one, two):
        after.offer(Item(model, inputs, 0.0, None), np.zeros((2, len(LABELS))))
    after.close()
    assert [(each.version, len(each.rows)) for each in Records.made] == [
        (one.version, 2),
        (two.version, 1),
    ]
    assert all(each.closed for each in Records.made)
    assert metrics.traffic_dropped == 2


def test_a_candidate_with_other_labels_is_not_taken(tmp_path):
    from tutelage.deployment.serving.server import _comparable

    main = Holder(lambda: ("", package(tmp_path / "one")))
    main.load()
    _comparable(main, ServedModel.load(package(tmp_path / "two", labels=LABELS[::-1])))
    with pytest.raises(PackageError, match="other labels"):
        _comparable(main, ServedModel.load(package(tmp_path / "three", labels=["a", "b", "c"])))
