"""Connections to one server, kept alive between questions."""

import contextlib
import json
import socket
import ssl
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    RemoteDisconnected,
)
from threading import Lock
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.teachers.remote.proxies import proxy_for
from tutelage.teachers.remote.server import Server

_PIECE = 1 << 16
_LARGEST = 1 << 30
"""Bytes of an answer: 4,096 tokens with 128 candidates each are about 40 MB."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: Of HTTP; 0 where there is no whole answer.
        body: As it came.
        headers: By name in small letters.
        trouble: Why there is no answer.
        heard: Whether the server may have taken the question, and charged for it.
        hopeless: Whether asking again cannot help.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    heard: bool = False
    hopeless: bool = False

    def data(self) -> dict[str, Any] | None:
        """The body as JSON, or None where it is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class Wire:
    """Asks one server, on as many connections as threads ask at once.

    Args:
        server: Who is asked. Its key is read now, and held here alone.

    Raises:
        RecipeError: The key, the certificates or the proxy are not there.
    """

    def __init__(self, server: Server):
        self._server, self._address = server, server.address
        self._proxy = proxy_for(self._address)
        self._tls = _tls(server) if self._address.scheme == "https" else None
        self._key = server.key()
        self._idle: list[HTTPConnection] = []
        weakref.finalize(self, _hang_up, self._idle)
        self._busy: dict[HTTPConnection, socket.socket] = {}
        self._lock, self._cuts = Lock(), 0

    def struck(self, text: str) -> str:
        """A text on one line, without the key."""
        text = text.replace(self._key, "***") if self._key else text
        return " ".join(text.split())

    @property
    def cuts(self) -> int:
        """How often all was cut up to now: to be read before a question is known to be wanted."""
        return self._cuts

    def post(self, route: str, body: bytes, cuts: int) -> Reply:
        """Send a question, and wait for the answer; trouble is told, and raises nothing.

        A connection that the server has meanwhile closed is not a failed try: another is taken.

        Args:
            route: Below the server's address.
            body: What is sent.
            cuts: As told when it was wanted; if all has been cut since, nothing is sent.
        """
        while True:
            connection, used = self._take()
            reply, stale = self._exchange(connection, route, body, cuts)
            if not (used and stale):
                return reply

    def cut(self) -> None:
        """End all questions that are under way."""
        with self._lock:
            self._cuts += 1
            busy = list(self._busy.values())
        for one in busy:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let idle connections go."""
        with self._lock:
            _hang_up(self._idle)

    def _take(self) -> tuple[HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        at, proxy, wait = self._address, self._proxy, self._server.connect_timeout
        host, port = (at.host, at.port) if proxy is None else (proxy.host, proxy.port)
        if self._tls is None:
            return HTTPConnection(host, port, timeout=wait), False
        secured = HTTPSConnection(host, port, timeout=wait, context=self._tls)
        if proxy is not None:
            secured.set_tunnel(at.host, at.port, headers=dict(proxy.headers))
        return secured, False

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "tutelage",
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if self._proxy is not None and self._tls is None:
            headers |= dict(self._proxy.headers)
        return headers

    def _exchange(
        self, connection: HTTPConnection, route: str, body: bytes, cuts: int
    ) -> tuple[Reply, bool]:
        """The reply, and whether the other side had hung up before it read anything."""
        heard, end = False, time.monotonic() + self._server.timeout
        whole = f"{self._address}{route}" if self._proxy and self._tls is None else ""
        try:
            if connection.sock is None:
                connection.connect()
            line = connection.sock
            with self._lock:
                self._busy[connection] = line
                if cuts != self._cuts:  # while it was connecting
                    raise HTTPException("stopped")
            line.settimeout(self._server.timeout)
            heard = True
            connection.request(
                "POST", whole or f"{self._address.path}{route}", body, self._headers()
            )
            response = connection.getresponse()
            content = _whole(response, line, end)
            response.close()  # read by parts it does not end by itself, and the line stays taken
        except (OSError, HTTPException) as error:
            connection.close()
            stale = isinstance(error, (RemoteDisconnected, ConnectionResetError, BrokenPipeError))
            return self._lost(error, heard), stale
        finally:
            with self._lock:
                self._busy.pop(connection, None)
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, content, headers), False

    def _lost(self, error: Exception, heard: bool) -> Reply:
        server = self._server
        if isinstance(error, TimeoutError):
            seconds = server.timeout if heard else server.connect_timeout
            doing = "answered" if heard else "picked up"
            return Reply(0, trouble=f"nobody {doing} within {seconds:g} s", heard=heard)
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({error.verify_message}): name ca_file"
            return Reply(0, trouble=why, hopeless=True)
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
            return Reply(0, trouble="there is no host of that name", hopeless=True)
        told = self.struck(str(error)) or type(error).__name__
        return Reply(0, trouble=f"the connection was cut ({told})", heard=heard)


def _hang_up(idle: list[HTTPConnection]) -> None:
    while idle:
        idle.pop().close()


def _whole(response: HTTPResponse, line: socket.socket, end: float) -> bytes:
    """All of the body, before ``end``, however slowly it trickles."""
    parts, size = [], 0
    while part := response.read1(_PIECE):
        parts.append(part)
        size += len(part)
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if size > _LARGEST:
            raise HTTPException(f"the answer is larger than {_LARGEST >> 20} MiB")
        with contextlib.suppress(OSError):  # it is read from memory by now
            line.settimeout(left)
    if response.length:
        raise HTTPException(f"{response.length} bytes of the answer are missing")
    return b"".join(parts)


def _tls(server: Server) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=server.ca_file or None)
        if server.client_certificate:
            context.load_cert_chain(server.client_certificate)
    except (OSError, ssl.SSLError) as error:
        told = error.strerror or error.__class__.__name__
        files = [each for each in (server.ca_file, server.client_certificate) if each]
        raise RecipeError(
            f"certificates for {server.name} cannot be read from {' and '.join(files)} ({told}): "
            "name PEM files."
        ) from error
    return context
