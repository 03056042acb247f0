"""Somebody who writes text: a model here, or one behind a server."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """What a writer is asked.

    Attributes:
        key: Names the request for ever: answers are kept and taken up again by it.
        messages: Pairs (role, text) in order; roles are ``system``, ``user``, ``assistant``.
        most_tokens: Of the answer.
        temperature: Of the draw; 0 takes the likeliest token.
        top_p: Share of the likeliest tokens that are drawn from.
        seed: Of the draw; None leaves it to the writer.
        stop: Texts that end an answer, and are no part of it.
        top_logprobs: How many of the likeliest tokens are told at each position, with their
            log-probabilities; 0 for none.

    Example:
        >>> Request("q1", (("user", "What is 2 + 2?"),)).most_tokens
        256
    """

    key: str
    messages: tuple[tuple[str, str], ...]
    most_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0


@dataclass(frozen=True)
class Written:
    """An answer.

    Attributes:
        key: Of the request.
        text: What was written; empty where the writer failed.
        finish: ``stop`` (it ended), ``length`` (it was cut off), or ``error``.
        model: Who wrote, by the writer's own words.
        tokens_read: Tokens of the request.
        tokens_written: Tokens of the answer.
        error: One line; empty where there is none.
        logprobs: For each token of the answer: its text, its log-probability, and the likeliest
            tokens there as pairs (text, log-probability); empty where they were not asked for.
        facts: What else is known of this answer, as plain words.
    """

    key: str
    text: str
    finish: str
    model: str
    tokens_read: int = 0
    tokens_written: int = 0
    error: str = ""
    logprobs: tuple[tuple[str, float, tuple[tuple[str, float], ...]], ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class Writer(Protocol):
    """Whoever answers requests, in any order; each request gets exactly one answer."""

    @property
    def name(self) -> str:
        """What messages and records call it."""
        ...

    def write(self, requests: Iterable[Request]) -> Iterator[Written]:
        """The answers, as they come; one that failed says so in ``finish``, and raises nothing."""
        ...
