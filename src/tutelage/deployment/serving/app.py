"""The paths of the service, as an ASGI application."""

import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tutelage.core.errors import NotInstalled
from tutelage.deployment.serving import replies
from tutelage.deployment.serving.exposition import Exposition
from tutelage.deployment.serving.gate import Gate
from tutelage.deployment.serving.holder import Holder
from tutelage.deployment.serving.log import log
from tutelage.deployment.serving.metrics import Metrics
from tutelage.deployment.serving.predicting import BUSY, Gone, Predicting
from tutelage.deployment.serving.refused import Refused
from tutelage.deployment.serving.token import allowed

_Send = Callable[[Mapping[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Reply = tuple[int, bytes, str]
_JSON = "application/json"
PREDICT = "/v1/predict"


class App:
    """Answers, or says in one line why not.

    Args:
        holder: Of the version that answers.
        shadow: Of the candidate; None where there is none.
        gate: Who is let in.
        metrics: Where it counts.
        predicting: Makes logits of requests.
        token: What callers must show, except at ``/healthz``; None for everybody.
        stopping: Whether the server is about to end.
        access: Whether each request is logged.
    """

    def __init__(
        self,
        holder: Holder,
        shadow: Holder | None,
        gate: Gate,
        metrics: Metrics,
        predicting: Predicting,
        *,
        token: bytes | None = None,
        stopping: Callable[[], bool] = lambda: False,
        access: bool = False,
    ):
        self._holder, self._shadow, self._gate, self._metrics = holder, shadow, gate, metrics
        self._predicting, self._token, self._stopping = predicting, token, stopping
        self._access = access
        self._exposition = Exposition(metrics, gate, self._versions)
        self._routes: dict[str, Callable[[], Awaitable[Reply]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metered,
            "/v1/model": self._model,
        }

    async def __call__(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        """What uvicorn calls for each request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        arrived, more = time.perf_counter(), []
        after: Callable[[], None] | None = None
        try:
            if scope["path"] == PREDICT and scope["method"] == "POST":
                body, after = await self._predict(scope, receive)
                status, kind = 200, _JSON
            else:
                status, body, kind = await self._other(scope)
        except Refused as refused:
            status, body, kind = refused.status, replies.error(refused.line), _JSON
            more = self._told_with(status, scope["path"])
        except Gone:
            return
        except NotInstalled as missing:
            status, body, kind = 415, replies.error(str(missing)), _JSON
        except Exception:  # a bug: the caller is told nothing of it, the log everything
            log("failed", path=scope["path"], trace=traceback.format_exc())
            status, body, kind = 500, replies.error("this server failed; its log says more"), _JSON
        await _answer(send, status, body, kind, more)
        self._metrics.statuses[status] += 1
        if after is not None:
            after()
        if self._access:
            seconds = round(time.perf_counter() - arrived, 6)
            log("access", method=scope["method"], path=scope["path"], status=status, took=seconds)

    async def _predict(
        self, scope: Mapping[str, Any], receive: _Receive
    ) -> tuple[bytes, Callable[[], None]]:
        if self._holder.model is None:
            raise Refused(503, "no model is loaded yet")
        if self._gate.closed:  # before the body is read; those who are let in count when it is
            self._gate.refuse()
            raise Refused(503, BUSY)
        self._authorize(scope)
        return await self._predicting.reply(scope, receive)

    def _authorize(self, scope: Mapping[str, Any]) -> None:
        if self._token is not None and not allowed(scope["headers"], self._token):
            raise Refused(401, "send the header Authorization: Bearer TOKEN, with the right one")

    def _told_with(self, status: int, path: str) -> list[tuple[bytes, bytes]]:
        if status == 503:
            return [(b"retry-after", str(self._gate.retry_after()).encode())]
        if status == 405:
            return [(b"allow", b"POST" if path == PREDICT else b"GET, HEAD")]
        return [(b"www-authenticate", b"Bearer")] if status == 401 else []

    async def _other(self, scope: Mapping[str, Any]) -> Reply:
        path, method = scope["path"], scope["method"]
        if path != "/healthz":
            self._authorize(scope)
        if path == PREDICT:
            raise Refused(405, f"{method:.20} is not taken here: POST is")
        if path not in self._routes:
            known = ", ".join([PREDICT, *self._routes])
            raise Refused(404, f"there is no {path!r:.80}: there are {known}")
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"{method:.20} is not taken here: GET is")
        return await self._routes[path]()

    async def _healthz(self) -> Reply:
        return 200, b'{"alive": true}', _JSON

    async def _readyz(self) -> Reply:
        if self._stopping():
            raise Refused(503, "the server is stopping")
        if self._holder.model is None:
            raise Refused(503, "no model is loaded yet")
        await self._predicting.probe(self._holder.model)
        return 200, b'{"ready": true}', _JSON

    async def _metered(self) -> Reply:
        return 200, self._exposition.render(), "text/plain; version=0.0.4; charset=utf-8"

    async def _model(self) -> Reply:
        model = self._holder.model
        if model is None:
            raise Refused(503, "no model is loaded yet")
        told: dict[str, Any] = {
            "model": model.name,
            "version": model.version,
            "digest": model.digest,
            "packed": model.packed,
            "labels": list(model.labels),
            "inputs": {
                name: {"shape": each.shape, "dtype": each.dtype, "range": each.range}
                for name, each in model.inputs.items()
            },
            "most_examples": self._predicting.most,
        }
        if self._shadow is not None and self._shadow.model is not None:
            told["shadow"] = self._shadow.model.version
        return 200, json.dumps(told, ensure_ascii=False).encode(), _JSON

    def _versions(self) -> dict[str, str]:
        model, shadow = self._holder.model, None if self._shadow is None else self._shadow.model
        return {
            "name": "" if model is None else model.name,
            "version": "" if model is None else model.version,
            "shadow": "" if shadow is None else shadow.version,
        }

    def _batched(self, count: int, oldest: float, now: float) -> None:
        self._gate.done(count, began=oldest, now=now)
        self._metrics.batches.one(count)

    async def _live(self, receive: _Receive, send: _Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._predicting.start(self._batched)
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self._predicting.close)
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _answer(
    send: _Send, status: int, body: bytes, kind: str, more: list[tuple[bytes, bytes]]
) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
