"""tutelage serve: wrong words end at once, with one line and an exit status."""

import socket

import pytest
from test_serving_base import package

from tutelage.deployment.serving.server import Settings, _warn
from typed import typed


def call(monkeypatch, *words):
    return typed(monkeypatch, "serve", *words)


def refused(monkeypatch, *words):
    code, out, err = call(monkeypatch, *words)
    assert out == ""
    assert err.startswith("tutelage: ")
    assert err.count("\n") == 1
    return code, err


def test_there_is_no_such_package(monkeypatch, tmp_path):
    code, err = refused(monkeypatch, tmp_path / "nothing.zip")
    assert code == 2
    assert "there is no package" in err
    (tmp_path / "empty").mkdir()
    code, err = refused(monkeypatch, tmp_path / "empty")
    assert code == 2
    assert "tutelage package" in err


def test_a_package_that_is_not_whole_ends_with_1(monkeypatch, tmp_path):
    folder = package(tmp_path / "p")
    (folder / "labels.json").write_bytes(b"{}")
    code, err = refused(monkeypatch, folder, "--port", "0")
    assert code == 1
    assert "labels.json has 2 bytes" in err


def test_an_unsigned_package_is_not_served_with_a_key(monkeypatch, tmp_path):
    (tmp_path / "key").write_bytes(bytes(range(32)))
    path = package(tmp_path / "p.zip")
    code, err = refused(monkeypatch, path, "--port", "0", "--key", tmp_path / "key")
    assert code == 1
    assert "unsigned" in err


def test_a_port_that_is_taken(monkeypatch, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path, port = package(tmp_path / "p.zip"), taken.getsockname()[1]
        code, err = refused(monkeypatch, path, "--port", port)
    assert code == 2
    assert f"127.0.0.1:{port} cannot be listened at" in err


def test_a_token_that_is_none(monkeypatch, tmp_path):
    path = package(tmp_path / "p.zip")
    for content in ("short", "two words that are long enough", ""):
        (tmp_path / "token").write_text(content)
        code, err = refused(monkeypatch, path, "--token-file", tmp_path / "token")
        assert code == 2
        assert "openssl rand -hex 32" in err
        assert content not in err or not content
    code, err = refused(monkeypatch, path, "--token-file", tmp_path / "none")
    assert (code, "cannot be read" in err) == (2, True)


@pytest.mark.parametrize("words", [("--port", "70000"), ("--shadow-share", "2"), ("--queue", "0")])
def test_numbers_out_of_bounds(monkeypatch, words):
    code, err = refused(monkeypatch, "p.zip", *words)
    assert code == 2
    assert words[0] in err


def test_listening_to_others_without_a_token_is_warned_of(capsys):
    _warn(Settings(host="127.0.0.1"))
    _warn(Settings(host="0.0.0.0", token=b"x" * 32))
    assert capsys.readouterr().err == ""
    _warn(Settings(host="0.0.0.0"))
    assert "everybody who reaches 0.0.0.0 can ask" in capsys.readouterr().err
