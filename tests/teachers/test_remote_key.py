"""The key: where it is read, where it goes, and where it must never stand."""

import datetime
import logging
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from small_server import running
from test_remote_writer import QUICK, asked

from tutelage.core.errors import RecipeError, ServerError
from tutelage.teachers.remote import OpenAIWriter, Server
from tutelage.teachers.remote.proxies import Proxy, proxy_for

KEY = "sk-very-secret-7f3a9b"


@pytest.fixture(scope="module")
def server():
    return running()


def keyed(server, **options):
    return Server(server.url, "tiny", key_env="SMALL_KEY", **options)


def test_a_key_is_sent_and_stands_nowhere_else(server, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("SMALL_KEY", KEY)
    server.ways(key=KEY)
    caplog.set_level(logging.DEBUG)
    with OpenAIWriter(keyed(server), journal=tmp_path / "j.jsonl") as one:
        answers = list(one.write(asked(2)))
        told = f"{answers}{one.name}{one!r}{one.server!r}{one.spent}{one.estimate(asked(3))}"
    assert [a.error for a in answers] == ["", ""]
    assert {seen["key"] for seen in server.seen} == {f"Bearer {KEY}"}
    kept = "".join(file.read_text() for file in tmp_path.iterdir())
    assert KEY not in told + kept + caplog.text


def test_a_key_in_a_file_is_read_without_the_blanks_around_it(server, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"\n{KEY}\n")
    server.ways(key=KEY)
    with OpenAIWriter(Server(server.url, "tiny", key_file=str(file))) as one:
        assert [a.error for a in one.write(asked(1))] == [""]


def test_a_server_that_tells_the_key_back_is_not_repeated(server, monkeypatch):
    monkeypatch.setenv("SMALL_KEY", KEY)
    server.ways(key="another")
    with (
        OpenAIWriter(keyed(server)) as one,
        pytest.raises(
            RecipeError, match=r"does not let this key in \(401.*look at SMALL_KEY"
        ) as no,
    ):
        list(one.write(asked(1)))
    assert KEY not in str(no.value)
    assert "***" in str(no.value)


@pytest.mark.parametrize("value", ["", "  \n", "two words", "ümlaut", "x" * 5000, "a\nb"])
def test_what_is_no_key_is_refused(server, monkeypatch, value):
    monkeypatch.setenv("SMALL_KEY", value)
    with OpenAIWriter(keyed(server)) as one, pytest.raises(RecipeError, match="SMALL_KEY") as no:
        list(one.write(asked(1)))
    assert not value.strip() or value not in str(no.value)


def test_a_key_file_that_is_not_there_is_told(server, tmp_path):
    with (
        OpenAIWriter(Server(server.url, "tiny", key_file=str(tmp_path / "no"))) as one,
        pytest.raises(RecipeError, match="cannot be read"),
    ):
        list(one.write(asked(1)))


def test_a_key_does_not_travel_in_clear_unless_told():
    with pytest.raises(RecipeError, match="unencrypted"):
        Server("http://gpu.example:8000", "m", key_env="SMALL_KEY")
    Server("http://gpu.example:8000", "m", key_env="SMALL_KEY", key_in_clear=True)
    Server("https://gpu.example", "m", key_env="SMALL_KEY")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://me:pass-word@api.example/v1", "holds a name or a password"),
        ("ftp://api.example", "expected one such as"),
        ("127.0.0.1:8000", "expected one such as"),
        ("http://[::1", "expected one such as"),
        ("http://host:99999999/v1", "expected one such as"),
        ("https://api.example/v1?key=1", "expected one such as"),
    ],
)
def test_an_address_that_is_none_is_refused(url, why):
    with pytest.raises(RecipeError, match=why) as told:
        Server(url, "m")
    assert "pass-word" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "whole", "here"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", True),
        ("http://127.0.0.9:8000/v1/", "http://127.0.0.9:8000/v1", True),
        ("http://[::1]:8000", "http://[::1]:8000/v1", True),
        ("https://api.example/openai/v1", "https://api.example:443/openai/v1", False),
    ],
)
def test_an_address_is_made_whole(url, whole, here):
    address = Server(url, "m").address
    assert (str(address), address.loopback) == (whole, here)


def test_no_proxy_stands_before_this_machine(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    server.ways()
    with OpenAIWriter(Server(server.url, "tiny"), patience=QUICK) as one:
        assert [a.error for a in one.write(asked(1))] == [""]
    elsewhere = Server("http://gpu.example:8000", "m").address
    assert proxy_for(elsewhere) == Proxy("127.0.0.1", 9)
    monkeypatch.setenv("no_proxy", "gpu.example")
    assert proxy_for(elsewhere) is None


def test_a_proxy_is_asked_for_the_whole_address(server, monkeypatch):
    """The small server stands in for a proxy: it is sent an address that is not its own."""
    server.ways()
    monkeypatch.setenv("http_proxy", server.url.replace("://", "://me:pw@"))
    monkeypatch.delenv("no_proxy", raising=False)
    elsewhere = Server("http://gpu.example:8000", "tiny")
    with OpenAIWriter(elsewhere, patience=QUICK) as one:
        assert [a.error for a in one.write(asked(1))] == [""]
    assert server.seen[0]["path"] == "http://gpu.example:8000/v1/chat/completions"
    assert proxy_for(elsewhere.address).headers == (("Proxy-Authorization", "Basic bWU6cHc="),)


def certificate(folder):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + made.public_bytes(pem))


class Four(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        content = b'{"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_certificates_are_checked_always(tmp_path):
    certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with HTTPServer(("127.0.0.1", 0), Four) as secured:
        secured.handle_error = lambda *_: None
        secured.socket = context.wrap_socket(secured.socket, server_side=True)
        threading.Thread(target=secured.serve_forever, daemon=True).start()
        url = f"https://localhost:{secured.server_port}"
        trusted = Server(url, "m", ca_file=str(tmp_path / "ca.pem"))
        with OpenAIWriter(trusted, patience=QUICK) as one:
            assert [a.text for a in one.write(asked(2))] == ["4", "4"]
        with (
            OpenAIWriter(Server(url, "m"), patience=QUICK) as one,
            pytest.raises(ServerError, match=r"certificate is not trusted .*name ca_file"),
        ):
            list(one.write(asked(1)))
        secured.shutdown()


def test_certificates_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    one = OpenAIWriter(Server("https://localhost:9", "m", ca_file=str(tmp_path / "no.pem")))
    with one, pytest.raises(RecipeError, match=r"no\.pem.*PEM"):
        list(one.write(asked(1)))
