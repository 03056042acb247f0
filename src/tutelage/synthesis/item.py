"""One example under way: its words, and all that led to them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

Plain = str | int | float | bool | None


@dataclass(frozen=True)
class Step:
    """What one stage did to an item, or how it made it.

    Attributes:
        stage: Its name in the plan.
        date: Day on which the answer came, ``2026-01-31``; it is no part of any hash.
        writer: Who was asked; empty where nobody was.
        model: Who wrote, by the writer's own words.
        request: The request's key; it finds the answer, word for word, in the stage's journal.
        parents: Items that this one comes from.
        licence: A note on what may be done with what was written.
    """

    stage: str
    date: str = ""
    writer: str = ""
    model: str = ""
    request: str = ""
    parents: tuple[str, ...] = ()
    licence: str = ""


@dataclass(frozen=True)
class Item:
    """An instruction and, in time, its answer.

    Attributes:
        instruction: What is asked.
        input: What it is asked about; empty where the instruction says all.
        answer: What is to be learnt; empty until somebody answered.
        reasoning: Steps on the way to the answer.
        score: 1 to 10, by a judge.
        facts: What else is known, as plain words and numbers.
        steps: Its whole history, in order.

    Example:
        >>> item = Item("Name a prime.", answer="7")
        >>> item.id == Item("Name a prime.", answer="7").id != Item("Name a prime.").id
        True
    """

    instruction: str
    input: str = ""
    answer: str = ""
    reasoning: str | None = None
    score: float | None = None
    facts: Mapping[str, Plain] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    @cached_property
    def id(self) -> str:
        """Hash of content and lineage, 16 hex digits: the same in every run that did the same."""
        lineage = [[s.stage, s.request, list(s.parents)] for s in self.steps]
        return digest([self._content(), lineage])[:16]

    @property
    def question(self) -> str:
        """Instruction and input as one text."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    def then(self, step: Step, **changes: Any) -> "Item":
        """This item with other words, and one more step in its history."""
        return replace(self, **changes, steps=(*self.steps, step))

    def with_facts(self, **facts: Plain) -> dict[str, Plain]:
        """Its facts and some more."""
        return {**self.facts, **facts}

    def row(self) -> dict[str, Any]:
        """As JSON can write it."""
        steps = [{k: v for k, v in vars(step).items() if v} for step in self.steps]
        return {"id": self.id, **self._content(), "steps": steps}

    def _content(self) -> dict[str, Any]:
        return {
            "instruction": self.instruction,
            "input": self.input,
            "answer": self.answer,
            "reasoning": self.reasoning,
            "score": self.score,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Dropped:
    """An item that did not go on, kept beside.

    Attributes:
        item: As it was before the stage that dropped it.
        stage: Which one.
        reason: The kind of reason, which counts are by: ``too short``.
        why: The particulars: ``2 words, expected at least 3``.
        request: Key of the answer that was no use; empty where it was not about one.
    """

    item: Item
    stage: str
    reason: str
    why: str = ""
    request: str = ""

    def row(self) -> dict[str, Any]:
        """As JSON can write it."""
        said = {"stage": self.stage, "reason": self.reason, "why": self.why}
        return {**said, "request": self.request, "item": self.item.row()}


def digest(content: Any) -> str:
    """SHA-256 (hex) of plain data, written in one way.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def together(items: Sequence[Item]) -> str:
    """One hash for all items, in order."""
    return digest([item.id for item in items])
