"""Conversations out of JSON Lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, suggest
from tutelage.data.text.reading import Row, checked_text, json_rows

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Conversation:
    """Who said what, up to the last answer.

    Attributes:
        messages: Pairs (role, text) in order.
        place: Where it stands, for messages to people.
    """

    messages: tuple[tuple[str, str], ...]
    place: str

    @property
    def answers(self) -> list[int]:
        """The places of the assistant's messages."""
        return [i for i, (role, _) in enumerate(self.messages) if role == "assistant"]

    @property
    def opening(self) -> tuple[tuple[str, str], ...]:
        """What was said before the first answer."""
        return self.messages[: self.answers[0]]


def conversations(path: Path, what: str, encoding: str = "utf-8") -> Iterator[Conversation]:
    """The conversations of a file.

    A line is ``{"messages": [{"role": ..., "content": ...}, ...]}``, or ``{"prompt": ...,
    "answer": ...}``, with ``"system"`` if there is such; other keys are passed over. What follows
    the last answer is left out, as nothing is learnt from it.

    Raises:
        DataError: A line is neither, a role is unknown, or nobody answers.
    """
    for row in json_rows(path, what, encoding):
        said = _messages(row) if "messages" in row.content else _pair(row)
        last = max((i for i, (role, _) in enumerate(said) if role == "assistant"), default=None)
        if last is None:
            raise DataError(f"{row.place} has no message of the assistant: there is no answer.")
        if last == 0:
            raise DataError(f"{row.place} begins with an answer: a question must come before it.")
        yield Conversation(tuple(said[: last + 1]), row.place)


def _pair(row: Row) -> list[tuple[str, str]]:
    if "prompt" not in row.content and "answer" not in row.content:
        raise DataError(
            f"{row.place} has neither 'messages' nor 'prompt' and 'answer'. "
            f"{suggest('messages', row.content)}"
        )
    system = [("system", row.text("system"))] if "system" in row.content else []
    return [*system, ("user", row.text("prompt")), ("assistant", row.text("answer"))]


def _messages(row: Row) -> list[tuple[str, str]]:
    found = row.content["messages"]
    if not isinstance(found, list) or not found:
        raise DataError(f"'messages' in {row.place} is no list of messages: expected at least two.")
    return [_message(each, f"message {i + 1} in {row.place}") for i, each in enumerate(found)]


def _message(found: Any, place: str) -> tuple[str, str]:
    if not isinstance(found, dict) or not {"role", "content"} <= set(found):
        raise DataError(f'{place} is not of the form {{"role": ..., "content": ...}}.')
    role = found["role"]
    if role not in ROLES:
        raise DataError(f"{place} has the role {role!r}. {suggest(str(role), ROLES)}")
    return role, checked_text(found["content"], f"the content of {place}")
