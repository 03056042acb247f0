"""The server: puts the parts together, listens, and ends in order."""

import asyncio
import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tutelage.core.errors import NotInstalled, PackageError, RecipeError
from tutelage.deployment.serving.afterwards import Afterwards
from tutelage.deployment.serving.app import App
from tutelage.deployment.serving.batching import SHORT
from tutelage.deployment.serving.gate import Gate
from tutelage.deployment.serving.holder import Holder, Resolve
from tutelage.deployment.serving.log import log
from tutelage.deployment.serving.metrics import Metrics
from tutelage.deployment.serving.model import ServedModel
from tutelage.deployment.serving.predicting import Limits, Predicting

_GRACE = 10  # seconds for what is inside when the server is told to stop
_READING = 10.0  # seconds for a request to arrive as a whole
_IDLE = 75  # seconds that a connection may be silent between two requests
_OVERHEAD = 0.0005  # seconds: what HTTP costs a request, or a first guess of it


@dataclass(frozen=True)
class Settings:
    """Of one server.

    Attributes:
        host: Address to listen at; other machines reach all but loopback.
        port: 0 takes a free one, which the log names.
        threads: Of ONNX Runtime.
        key: What packages must be signed with.
        limits: Of requests and batches.
        queue: Examples within the server at most.
        token: What callers must show; None for everybody.
        shadow_share: Of requests that the candidate gets too.
        traffic: Folder where inputs' summaries and answers are recorded.
        keep_inputs: Share of the inputs that is recorded as it came, to ask a teacher later.
        access: Whether each request is logged.
        every: Seconds between two looks for another version.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int = 1
    key: Path | None = None
    limits: Limits = field(default_factory=Limits)
    queue: int = 256
    token: bytes | None = None
    shadow_share: float = 0.1
    traffic: Path | None = None
    keep_inputs: float = 0.0
    access: bool = False
    every: float = 1.0


def serve(resolve: Resolve, settings: Settings, shadow: Resolve | None = None) -> None:
    """Load the model, listen, and answer until SIGTERM or SIGINT.

    Args:
        resolve: Which version should answer; asked each second.
        settings: Of the server.
        shadow: Which version is compared with it; None for none.

    Raises:
        PackageError: The first version is broken.
        RecipeError: The address cannot be listened at.
        NotInstalled: The extra ``serve`` is missing.
    """
    try:
        import httptools  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise NotInstalled(f'serving needs {error.name}: pip install "tutelage[serve]"') from error
    listening = _listen(settings.host, settings.port)
    with listening:
        metrics = Metrics()
        holder, candidate = _holders(resolve, shadow, settings, metrics)
        _warn(settings)
        after = Afterwards(
            metrics,
            lambda: None if candidate is None else candidate.model,
            settings.shadow_share,
            _recorder(settings.traffic, settings.keep_inputs),
        )
        gate = _gate(holder, settings)
        predicting = Predicting(holder, gate, metrics, after, settings.limits)
        app = App(
            holder,
            candidate,
            gate,
            metrics,
            predicting,
            token=settings.token,
            stopping=lambda: server.should_exit,
            access=settings.access,
        )
        every_second = _each_second(gate, holder, lambda: server.server_state.connections)
        server = uvicorn.Server(_config(app, gate, every_second))
        every = [each for each in (holder, candidate) if each is not None]
        for each in every:
            each.watch(settings.every)
        _announce(listening, holder.model, candidate)
        _run(server, listening)
        for each in every:
            each.close()
        after.close()
        log("stopped")


def _holders(
    resolve: Resolve, shadow: Resolve | None, settings: Settings, metrics: Metrics
) -> tuple[Holder, Holder | None]:
    def told(swapped: bool) -> None:
        metrics.swaps += swapped
        metrics.refusals += not swapped

    words: dict[str, Any] = {"key": settings.key, "threads": settings.threads}
    holder = Holder(resolve, told=told, **words)
    holder.load()
    if shadow is None:
        return holder, None
    fits = partial(_comparable, holder)
    candidate = Holder(shadow, role="shadow", fits=fits, **words)
    candidate.load()
    return holder, candidate


def _comparable(holder: Holder, new: ServedModel) -> None:
    model = holder.model
    if model is None:
        return
    if set(new.labels) != set(model.labels):
        raise PackageError("the shadow has other labels than the model: they cannot be compared.")
    if dict(new.inputs) != dict(model.inputs):
        raise PackageError("the shadow takes other inputs than the model.")


def _gate(holder: Holder, settings: Settings) -> Gate:
    each = holder.seconds + _OVERHEAD
    return Gate(settings.queue, allowed=_allowed(holder), each=each)


def _allowed(holder: Holder) -> float:
    """Seconds to wait for others: about what an answer takes alone, so that no more than twice.

    None for a model that is run in the event loop: the loop does one thing after the other.
    """
    return 0.0 if holder.seconds <= SHORT else holder.seconds + 2 * _OVERHEAD


def _recorder(folder: Path | None, keep: float) -> Callable[[str], Any] | None:
    if folder is None:
        return None
    from tutelage.deployment.traffic import TrafficLog

    return lambda version: TrafficLog(folder, version=version, keep_inputs=keep)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, number)
    except OSError as error:
        raise RecipeError(f"--host: {host!r:.100} is no address: {error.strerror}.") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except OSError as error:
        made.close()
        raise RecipeError(
            f"{host}:{port} cannot be listened at ({error.strerror}): give another --port, or 0."
        ) from error
    return made


def _warn(settings: Settings) -> None:
    loopback = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
    if not loopback and settings.token is None:
        log(
            "warning",
            why=f"everybody who reaches {settings.host} can ask: give --token-file, and put TLS "
            "in front",
        )


def _announce(
    listening: socket.socket, model: ServedModel | None, candidate: Holder | None
) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    facts = {} if model is None else {"model": model.name, "version": model.version}
    if model is not None and model.alone:
        facts["batches"] = "none: examples are run one by one, a batch would change the answers"
    if candidate is not None and candidate.model is not None:
        facts["shadow"] = candidate.model.version
    log("serving", url=f"http://{shown}:{port}", **facts)


def _each_second(
    gate: Gate, holder: Holder, connections: Callable[[], Any]
) -> Callable[[], Awaitable[None]]:
    from tutelage.deployment.serving.protocol import sweep

    told = Shedding(gate)

    async def look() -> None:
        sweep(connections(), _READING)
        gate.allowed = _allowed(holder)  # another version may be faster or slower
        told.tell()

    return look


def _config(app: App, gate: Gate, every_second: Callable[[], Awaitable[None]]) -> Any:
    import uvicorn

    from tutelage.deployment.serving.protocol import Guarded

    return uvicorn.Config(
        app,
        http=type("Guarded", (Guarded,), {"gate": gate}),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_GRACE,
        callback_notify=every_second,
        timeout_notify=1,
        backlog=1024,
    )


class Shedding:
    """Says in the log, every ten seconds at most, how many were turned down."""

    def __init__(self, gate: Gate):
        self._gate, self._told, self._next = gate, 0, 0.0

    def tell(self) -> None:
        """Look, and write a line if there is something new."""
        new = self._gate.shed - self._told
        if new and time.monotonic() >= self._next:
            self._told, self._next = self._gate.shed, time.monotonic() + 10
            log("shed", requests=new, waiting=self._gate.waiting, admitted=self._gate.limit)


def _run(server: Any, listening: socket.socket) -> None:
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again when it is done: stopping as told is exit status 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
    # The thread of the model must not wait 5 ms, Python's default, for the event loop's.
    sys.setswitchinterval(0.0001)
    gc.collect()
    gc.freeze()  # what is loaded stays: collections need not walk it
    with suppress(asyncio.CancelledError):
        server.run(sockets=[listening])
