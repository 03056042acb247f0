"""Writers that answer by rule, and say what they were asked."""

import os
import signal
from pathlib import Path

from tutelage.core.writing import Written
from tutelage.synthesis.answer import Answer
from tutelage.synthesis.item import Item

DAY = "2026-01-31"


class Scripted:
    """Answers with ``rule(request)``; a rule's error is a failure. Keeps what it was asked."""

    name = "scripted"

    def __init__(self, rule=lambda request: f"to: {request.messages[-1][1]}", log=None, kill=None):
        self.rule, self.log, self.kill, self.asked = rule, log, kill, []

    def write(self, requests):
        for request in requests:
            if self.kill == len(self.asked):
                os.kill(os.getpid(), signal.SIGKILL)
            self.asked.append(request)
            if self.log:
                with Path(self.log).open("a") as file:
                    file.write(request.key + "\n")
            yield self._one(request)

    def _one(self, request):
        try:
            text = self.rule(request)
        except LookupError as error:
            return Written(request.key, "", "error", "rule-1", error=str(error))
        if isinstance(text, Written):
            return text
        read = sum(len(words.split()) for _, words in request.messages)
        return Written(request.key, text, "stop", "rule-1", read, len(text.split()))


def seeds(count=5):
    return [Item(f"Question number {i}: what is {i} plus {i}?") for i in range(count)]


def stages():
    return {"answer": Answer(), "again": Answer(again=True, temperature=1.0)}
