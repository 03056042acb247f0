"""uvicorn's HTTP protocol, hardened: cheap refusals, bounded heads, no endless reading."""

import re
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tutelage.deployment.serving import replies
from tutelage.deployment.serving.gate import Gate
from tutelage.deployment.serving.predicting import BUSY

_START = b"POST /v1/predict"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*(?=\r\n)")
_UNUSUAL = (b"\r\ntransfer-encoding", b"\r\nexpect:", b"\r\nconnection: close", b"\r\nupgrade:")
_MOST_HEAD = 65_536  # bytes of address and headers


def _response(status: bytes, line: str, *headers: bytes) -> bytes:
    body = replies.error(line)
    head = [b"HTTP/1.1 " + status, b"content-type: application/json", *headers]
    return b"\r\n".join([*head, b"content-length: %d" % len(body), b"", body])


_BUSY = _response(b"503 Service Unavailable", BUSY, b"retry-after: 1")
_FULL = _response(
    b"503 Service Unavailable", "too many connections", b"retry-after: 1", b"connection: close"
)
_SLOW = _response(b"408 Request Timeout", "the request came too slowly", b"connection: close")


class Guarded(HttpToolsProtocol):
    """One connection.

    A prediction that is asked for while the gate is closed is turned down from the bytes of its
    head: neither parsed, nor given to a handler; its body is thrown away.
    """

    gate: Gate
    most_connections = 1024

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._within = False  # a request, of which more bytes are to come
        self._skip = 0  # bytes of a body that nobody wants
        self._head = 0
        self.since: float | None = time.monotonic()  # when somebody began to send; None: nobody
        self.doomed = False

    def connection_made(self, transport: Any) -> None:
        """A client comes."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.write(_FULL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._skip:
            gone = min(self._skip, len(data))
            self._skip -= gone
            data = data[gone:]
        if data and not self._shed(data):
            super().data_received(data)
        if self._within or self._skip:
            self.since = self.since or time.monotonic()
        else:
            self.since = None

    def _shed(self, data: bytes) -> bool:
        if self._within or not data.startswith(_START):
            return False
        gate = self.gate
        if not gate.closed:
            if not gate.arriving:
                self.loop.call_soon(_arrived, gate)
            gate.arriving += 1
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        size = _size(data)
        if size is None:
            return False
        self._unset_keepalive_if_required()
        self.transport.write(_BUSY)
        gate.refuse()
        gate.unparsed += 1
        if size > len(data):
            self._skip = size - len(data)
        elif size < len(data):
            self.data_received(data[size:])
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        self._within, self._head = True, 0
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is here as a whole."""
        self._within = False
        super().on_message_complete()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        line = "this is no HTTP/1.1 request that is understood here"
        self.transport.write(_response(b"400 Bad Request", line, b"connection: close"))
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > _MOST_HEAD:
            raise ValueError("the head is too long")  # the parser makes a 400 of it


def _arrived(gate: Gate) -> None:
    """Handlers of this turn start now, and count themselves."""
    gate.arriving = 0


def _size(data: bytes) -> int | None:
    r"""Bytes of the first request in ``data``; None where that takes a parser.

    >>> _size(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok")
    40
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or data.find(b" HTTP/1.1\r\n", 0, end) < 0:
        return None
    head = data[: end + 2].lower()
    lengths = _LENGTH.findall(head)
    if len(lengths) != 1 or any(word in head for word in _UNUSUAL):
        return None
    return end + 4 + int(lengths[0])


def sweep(connections: Iterable[Any], seconds: float) -> None:
    """Close connections whose request takes longer to arrive; drop those that do not close."""
    now = time.monotonic()
    for each in list(connections):
        if each.doomed or each.transport is None:
            if each.transport is not None:
                each.transport.abort()
        elif each.transport.is_closing():
            each.doomed = True
        elif each.since is not None and now - each.since > seconds:
            each.transport.write(_SLOW)
            each.transport.close()
