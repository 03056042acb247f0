"""More requests than can be answered, and a stop in the middle of them."""

import signal
import socket
import threading
import time

import httpx
import pytest
from test_serving_base import IMAGE, Server, graph, package


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A server whose model takes some 50 ms, and which lets few wait."""
    place = tmp_path_factory.mktemp("slow")
    made = Server(place, package(place / "slow", graph(slow=800)), "--queue", "3")
    yield made
    made.stop()


def ask(server, count, kind="json"):
    """Answers to requests that are sent at once, each on its own connection."""
    answers, start = [], threading.Barrier(count)

    def one():
        with httpx.Client(base_url=server.url, timeout=30) as client:
            client.get("/healthz")  # connected before the others start
            start.wait()
            try:
                answers.append(server.ask(IMAGE, client))
            except httpx.HTTPError as error:
                answers.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    return answers, threads


def test_what_cannot_be_answered_in_time_is_turned_down_at_once(slow):
    alone, before = slow.ask(IMAGE), slow.metrics()["tutelage_shed_total"]
    assert alone.status_code == 200
    answers, threads = ask(slow, 16)
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    assert statuses.count(503) >= 8
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused[0].json() == {"error": "too many requests wait: ask again later"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    given = [answer.json()["predictions"] for answer in answers if answer.status_code == 200]
    assert all(each == alone.json()["predictions"] for each in given)
    found = slow.metrics()
    assert found["tutelage_shed_total"] - before == statuses.count(503)
    assert found['tutelage_requests_total{status="503"}'] == found["tutelage_shed_total"]
    assert found["tutelage_waiting"] == 0
    assert slow.ask(IMAGE).status_code == 200


def test_a_refusal_from_the_head_alone_leaves_the_connection_in_order(slow):
    """While others wait, bodies in pieces and requests behind one another are refused rightly."""
    host, port = slow.url.removeprefix("http://").split(":")
    request = (
        b"POST /v1/predict HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    )
    _, threads = ask(slow, 12)
    time.sleep(0.03)
    with socket.create_connection((host, int(port)), timeout=20) as end:
        end.sendall(request + b"{}")  # seven bytes are to come
        time.sleep(0.01)
        end.sendall(b"       " + request + b"{}       " + b"GET /healthz HTTP/1.1\r\n\r\n")
        said = b""
        while b"alive" not in said:
            said += end.recv(65_536)
    for thread in threads:
        thread.join()
    statuses = [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]]
    assert len(statuses) == 3
    assert set(statuses[:2]) <= {b"503", b"422"}
    assert statuses[2] == b"200"


def test_those_who_send_slowly_hold_up_nobody(slow):
    host, port = slow.url.removeprefix("http://").split(":")
    head = (
        b"POST /v1/predict HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
    )
    ends = [socket.create_connection((host, int(port))) for _ in range(10)]
    for end in ends:
        end.sendall(head + b"{")
    time.sleep(0.1)
    assert slow.metrics()["tutelage_waiting"] == 0
    assert slow.ask(IMAGE).status_code == 200
    for end in ends:
        end.close()


def test_a_stop_answers_what_is_inside(tmp_path):
    made = Server(tmp_path, package(tmp_path / "slow", graph(slow=1000)))
    answers, threads = ask(made, 2)
    while made.metrics()["tutelage_waiting"] < 1:
        time.sleep(0.005)
    began = time.monotonic()
    made.process.send_signal(signal.SIGTERM)
    status, _ = made.stop()
    assert status == 0
    assert time.monotonic() - began < 20
    for thread in threads:
        thread.join()
    given = [answer for answer in answers if isinstance(answer, httpx.Response)]
    assert given  # the second may have come too late to be accepted, and then is told so
    assert [answer.status_code for answer in given] == [200] * len(given)
    with pytest.raises(httpx.ConnectError):
        httpx.get(made.url + "/healthz")
