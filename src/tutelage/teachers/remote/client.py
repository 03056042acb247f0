"""One question, asked as often as it takes, no faster and no dearer than is allowed."""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from tutelage.core.errors import RecipeError, ServerError, TutelageError
from tutelage.teachers.remote.ledger import Ledger
from tutelage.teachers.remote.pace import Limits, Pace
from tutelage.teachers.remote.patience import Patience, asked_for, told_by, verdict_on
from tutelage.teachers.remote.server import Server
from tutelage.teachers.remote.wire import Reply, Wire

_OUTSIDE = "the budget is spent: it was not asked"
_HALTED = "the run was stopped before it was answered"


@dataclass(frozen=True)
class Answered:
    """What became of a question.

    Attributes:
        data: The server's answer; None where there is none.
        error: Why not, on one line.
        seconds: Of the try that was answered.
        tries: How often it was asked.
        headers: Of the answer.
    """

    data: dict[str, Any] | None
    error: str = ""
    seconds: float = 0.0
    tries: int = 0
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Weight:
    """How large a question is reckoned to be.

    Attributes:
        read: Its tokens.
        most: Tokens of the answer, at most.
    """

    read: int
    most: int


class Client:
    """Asks one server from many threads at once.

    Args:
        server: Who is asked.
        limits: How much at once and in a minute.
        patience: How often and after how long again.
        ledger: Keeps the books.
    """

    def __init__(self, server: Server, limits: Limits, patience: Patience, ledger: Ledger):
        self.server, self.limits, self.ledger = server, limits, ledger
        self._patience, self._pace = patience, Pace(limits)
        self._halt, self._lock = Event(), Lock()
        self._wire: Wire | None = None
        self._answered, self._row = False, 0
        self._fatal: TutelageError | None = None
        # What is drawn here sets the moment of a try, and nothing that anybody learns from.
        self._random = random.Random()

    def ask(self, route: str, body: Mapping[str, Any], weight: Weight) -> Answered:
        """Ask until there is an answer, or the question must be given up.

        Raises:
            ServerError: No question can be answered: a wrong key or model, a server that is not
                there, or too many failures in a row.
            RecipeError: The key or the certificates are not there.
        """
        wire, read, most = self._open(), weight.read, weight.most
        content = json.dumps(body).encode()
        if not self.ledger.reserve(read, most):
            return Answered(None, _OUTSIDE)
        settled = False
        try:
            answer = self._insist(wire, route, content, weight)
            if answer.data is not None:
                self.ledger.settle(read, most, usage_of(answer.data))
                settled = True
            return answer
        finally:
            if not settled:
                self.ledger.fail(read, most)

    def halt(self) -> None:
        """End what is under way, and send nothing more until `go_on`."""
        self._halt.set()
        if self._wire is not None:
            self._wire.cut()

    def go_on(self) -> None:
        """Questions may be sent again."""
        self._fatal = None
        self._halt.clear()

    def close(self) -> None:
        """Let idle connections go; the next question opens new ones."""
        if self._wire is not None:
            self._wire.close()

    def _open(self) -> Wire:
        with self._lock:
            if self._wire is None:
                self._wire = Wire(self.server)
            return self._wire

    def _insist(self, wire: Wire, route: str, content: bytes, weight: Weight) -> Answered:
        patience, tries = self._patience, 0
        while True:
            due = self._pace.book(weight.read + weight.most)
            while (left := self._pace.left(due)) > 0 and not self._halt.wait(left):
                pass
            cuts = wire.cuts
            if self._halt.is_set():
                return self._stopped(tries)
            tries += 1
            self.ledger.tried()
            begun = time.monotonic()
            reply = wire.post(route, content, cuts)
            verdict, told = verdict_on(reply), wire.struck(told_by(reply))
            if verdict == "fine":
                self._well()
                taken = time.monotonic() - begun
                return Answered(reply.data(), "", taken, tries, reply.headers)
            if self._halt.is_set():
                return self._stopped(tries)
            if verdict == "stop":
                raise self._ended(self._refused(route, reply, told))
            error = f"{_named(reply)}: {told}"
            if verdict == "alone":
                self._well()
                return Answered(None, error, tries=tries)
            fits = not reply.heard or self.ledger.unsure(weight.read, weight.most)
            asked = asked_for(reply.headers)
            if tries >= patience.tries or not fits or (asked or 0) > patience.longest:
                return self._given_up(error, tries, asked)
            if asked is not None:
                self._pace.hold(asked)
            self._halt.wait(patience.wait(tries, asked, self._random.uniform(0.5, 1.0)))

    def _given_up(self, error: str, tries: int, asked: float | None) -> Answered:
        if (asked or 0) > self._patience.longest:
            error += f"; it asks to be left alone for {asked:g} s"
        with self._lock:
            self._row += 1
            over = not self._answered or self._row >= self._patience.failures
            row = self._row
        if over:
            why = (
                f"{self.server.name} answered none of the last {row} questions ({error}, after "
                f"{tries} tries): see whether it runs, and go on later; what was answered is kept."
            )
            raise self._ended(ServerError(why))
        return Answered(None, f"{error}, after {tries} tries", tries=tries)

    def _ended(self, why: TutelageError) -> TutelageError:
        """No lane asks anything more, and all say why."""
        with self._lock:
            self._fatal = self._fatal or why
        self.halt()
        return why

    def _stopped(self, tries: int) -> Answered:
        if self._fatal is not None:
            raise self._fatal
        return Answered(None, _HALTED, tries=tries)

    def _well(self) -> None:
        with self._lock:
            self._answered, self._row = True, 0

    def _refused(self, route: str, reply: Reply, told: str) -> TutelageError:
        name, at = self.server.name, f"{self.server.address}{route}"
        if reply.status in (401, 403):
            where = self.server.key_env or self.server.key_file or "key_env or key_file, not given"
            return RecipeError(
                f"{name} does not let this key in ({reply.status}: {told}): look at {where}."
            )
        if reply.status == 404:
            return ServerError(
                f"{at} is not there, or has no model {self.server.model!r} (404: {told}): look at "
                "the address and the name."
            )
        return ServerError(
            f"{name} will answer no such question ({_named(reply)}: {told}): nothing more was sent."
        )


def usage_of(data: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens read and written, as the server tells; None where it does not.

    >>> usage_of({"usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    (7, 2)
    """
    told = data.get("usage")
    if not isinstance(told, dict):
        return None
    read, written = told.get("prompt_tokens"), told.get("completion_tokens", 0)
    if isinstance(read, int) and isinstance(written, int):
        return read, written
    return None


def _named(reply: Reply) -> str:
    return str(reply.status) if reply.status else "no answer"
