"""``tutelage synthesize`` with a writer behind a real server, and all that a server may do."""

import json
import socket

import pytest
import yaml
from small_server import running
from test_remote_writer import QUICK

import tutelage.teachers.remote.writer as remote
from typed import typed


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture
def synthesize(server, tmp_path, monkeypatch):
    server.ways()
    monkeypatch.setattr(remote, "Patience", lambda: QUICK)
    lines = [json.dumps({"instruction": f"the cat {n}"}) + "\n" for n in range(4)]
    (tmp_path / "seeds.jsonl").write_text("".join(lines))

    def run(*words, url=server.url, **writer):
        plan = {
            "synthesis": 1,
            "name": "served",
            "seeds": str(tmp_path / "seeds.jsonl"),
            "writer": {"openai": {"url": url, "model": "tiny", **writer}},
            "stages": [{"answer": {"most_tokens": 4, "temperature": 1.0}}],
        }
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
        words = (tmp_path / "plan.yaml", "--out", tmp_path / "out", *words)
        return typed(monkeypatch, "synthesize", *words)

    return run


def refused(found, told):
    code, said, err = found
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert told in err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"status": 401}, "does not let this key in (401: broken)"),
        ({"status": 404}, "has no model 'tiny' (404: broken): look at the address and the name"),
        ({"status": 429}, "(429: broken, after 4 tries): see whether it runs"),
        ({"status": 500}, "(500: broken, after 4 tries): see whether it runs"),
        ({"status": 200, "body": "<html>"}, '(200: "<html>", after 4 tries)'),
        ({"status": 200, "body": {"choices": 1}}, "4 of 4 requests of stage 'answer' failed"),
        ({"cut": "half"}, "bytes of the answer are missing"),
    ],
)
def test_trouble_is_one_line_and_the_run_goes_on_later(server, synthesize, tmp_path, fault, told):
    server.ways(always=fault)
    refused(synthesize(), told)
    server.ways()
    code, said, err = synthesize("--resume")
    assert (code, err) == (0, "")
    assert "4 requests now, 4 in all" in said
    spent = json.loads((tmp_path / "out/synthesis.json").read_text())["spent"]
    assert spent["tokens_read"] == sum(len(f"user: the cat {n}\n") - 4 - 2 for n in range(4))
    assert spent["reckoned"] == 0


def test_a_server_that_is_not_there(synthesize):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(synthesize(url=f"http://127.0.0.1:{port}"), "Connection refused")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ({"key_env": "TUTELAGE_NO_SUCH_KEY"}, "the variable TUTELAGE_NO_SUCH_KEY holds no key"),
        ({"key_file": "no such file"}, "the key file 'no such file' cannot be read"),
    ],
)
def test_a_key_that_is_not_there(server, synthesize, key, told):
    refused(synthesize(**key), told)
    assert server.seen == []


def test_tokens_that_the_server_does_not_tell_are_said_to_be_reckoned(server, synthesize, tmp_path):
    server.ways(no_usage=True)
    assert synthesize()[0] == 0
    facts = json.loads((tmp_path / "out/synthesis.json").read_text())
    assert facts["spent"]["reckoned"] == 4
    assert "Tokens of 4 answers are reckoned" in (tmp_path / "out/DATA_CARD.md").read_text()
