"""From a request's bytes to its answer: read, checked, batched, told."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tutelage.deployment.serving import replies
from tutelage.deployment.serving.afterwards import Afterwards
from tutelage.deployment.serving.batching import Batcher, Item
from tutelage.deployment.serving.decoding import Asked, options, read_json, read_npy
from tutelage.deployment.serving.exits import softmax
from tutelage.deployment.serving.gate import Gate
from tutelage.deployment.serving.holder import Holder
from tutelage.deployment.serving.images import read_form, read_image
from tutelage.deployment.serving.inputs import fitted
from tutelage.deployment.serving.metrics import Metrics
from tutelage.deployment.serving.model import ServedModel
from tutelage.deployment.serving.refused import Refused

_Receive = Callable[[], Awaitable[Mapping[str, Any]]]
_SMALL = 65_536  # bytes that are read in the event loop; more would hold up the others
_NPY = ("application/octet-stream", "application/x-npy")
_IMAGES = ("image/png", "image/jpeg")
_QUICK = ("application/json", *_NPY)
_KINDS = ("application/json", *_NPY, *_IMAGES, "multipart/form-data")

BUSY = "too many requests wait: ask again later"
"""The line of a request that is turned down."""


class Gone(Exception):
    """The client left before it was answered."""


@dataclass(frozen=True)
class _Content:
    """A request that is here as a whole: its kind, in short and as it was sent, and its body."""

    plain: str
    kind: str
    query: bytes
    body: bytes


@dataclass(frozen=True)
class Limits:
    """Of one server.

    Attributes:
        batch: Examples of one run of the model.
        wait: Seconds that a free model waits for requests that are being read.
        body: Bytes of a request's body.
        examples: Of one request.
    """

    batch: int = 32
    wait: float = 0.002
    body: int = 8 * 2**20
    examples: int = 256


class Predicting:
    """What ``POST /v1/predict`` does.

    Args:
        holder: Of the version that answers.
        gate: Counts who is inside.
        metrics: Counts what was said.
        after: Gets answers that were sent.
        limits: Of this server.
    """

    def __init__(
        self, holder: Holder, gate: Gate, metrics: Metrics, after: Afterwards, limits: Limits
    ):
        self._holder, self._gate, self._metrics = holder, gate, metrics
        self._after, self._limits = after, limits
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="reading")
        self._batcher: Batcher | None = None

    @property
    def most(self) -> int:
        """Examples of one request."""
        return self._limits.examples

    def start(self, told: Callable[[int, float, float], None]) -> None:
        """Begin, in the running event loop; ``told`` as `Batcher` calls it."""
        self._batcher = Batcher(self._limits.batch, self._limits.wait, told)

    def close(self) -> None:
        """End its threads, after what they work on."""
        if self._batcher is not None:
            self._batcher.close()
        self._readers.shutdown(cancel_futures=True)

    async def reply(
        self, scope: Mapping[str, Any], receive: _Receive
    ) -> tuple[bytes, Callable[[], None]]:
        """The body of an answer, and what to call when it was sent.

        Args:
            scope: The request's, as ASGI has it.
            receive: Gives its body.

        Raises:
            Refused: With the status and line it gets instead.
            Gone: Nobody waits for the answer.
        """
        content = await self._content(scope, receive)
        if not self._gate.enter():
            raise Refused(503, BUSY)
        more, arrived = 0, time.perf_counter()  # examples beyond the one that was let in
        try:
            item, asked = await self._item(content, arrived)
            more = item.count - 1
            self._gate.waiting += more
            logits = await self._in_line(item)
        finally:
            self._leave(1 + more)
        model = item.model
        shares = softmax(logits)
        body = replies.predictions(model, logits, shares, top=asked.top, raw=asked.logits)

        def sent() -> None:
            self._metrics.answered(time.perf_counter() - arrived)
            self._metrics.predicted(model.labels, shares)
            self._after.offer(item, logits)

        return body, sent

    async def probe(self, model: ServedModel) -> None:
        """See that the model answers zeros, in line with the others.

        Raises:
            Refused: 503: it does not within five seconds.
        """
        loop = asyncio.get_running_loop()
        item = Item(model, model.example(), time.perf_counter(), loop.create_future())
        try:
            await asyncio.wait_for(self._in_line(item), 5.0)
        except (TimeoutError, Refused) as error:
            raise Refused(503, "the model does not answer") from error

    def _leave(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        self._gate.leave(count)
        loop.call_soon(self._gate.turned, count)
        loop.call_soon(loop.call_soon, self._gate.rested, count)

    async def _content(self, scope: Mapping[str, Any], receive: _Receive) -> _Content:
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").decode("latin-1")
        plain = kind.partition(";")[0].strip().lower()
        if plain not in _KINDS:
            raise Refused(
                415,
                f"{plain or 'no content type':.60} is not taken: send {_KINDS[0]}, .npy "
                f"({_NPY[0]}), {', '.join(_IMAGES)} or {_KINDS[-1]}.",
            )
        body = await _body(headers, receive, self._limits.body)
        return _Content(plain, kind, scope["query_string"], body)

    async def _item(self, content: _Content, arrived: float) -> tuple[Item, Asked]:
        assert self._batcher is not None
        model = self._holder.model
        if model is None:
            raise Refused(503, "no model is loaded yet")
        loop = asyncio.get_running_loop()
        if len(content.body) <= _SMALL and content.plain in _QUICK:
            asked = _asked(content, model, self._limits.examples)
        else:
            self._batcher.coming += 1
            words = (content, model, self._limits.examples)
            try:
                asked = await loop.run_in_executor(self._readers, _asked, *words)
            finally:
                self._batcher.coming -= 1
        return Item(model, asked.inputs, arrived, loop.create_future()), asked

    async def _in_line(self, item: Item) -> np.ndarray:
        assert self._batcher is not None
        self._batcher.submit(item)
        return await item.answer


def _asked(content: _Content, model: ServedModel, most: int) -> Asked:
    plain, body = content.plain, content.body
    if plain == "application/json":
        asked = read_json(body, model.inputs, model.columns)
        if content.query:
            raise Refused(422, "logits and top belong into the JSON, not into the address.")
    else:
        if plain in _NPY:
            asked = read_npy(body, model.inputs)
        elif plain in _IMAGES:
            asked = read_image(body, model.inputs)
        else:
            asked = read_form(body, content.kind, model.inputs, most)
        logits, top = options(content.query)
        asked = replace(asked, logits=logits, top=top)
    inputs: dict[str, np.ndarray] = fitted(asked.inputs, model.inputs, most)
    return replace(asked, inputs=inputs)


async def _body(headers: Mapping[bytes, bytes], receive: _Receive, most: int) -> bytes:
    if int(headers.get(b"content-length", b"0")) > most:  # a number: uvicorn's parser saw to it
        raise Refused(413, f"the body is larger than {most:,} bytes.")
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > most:
            raise Refused(413, f"the body is larger than {most:,} bytes.")
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
