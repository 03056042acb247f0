"""Items as files that learning reads."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tutelage.synthesis.item import Dropped, Item
from tutelage.synthesis.item_files import write_rows

Reasoning = Literal["before", "none"]


def chat_row(item: Item, reasoning: Reasoning = "before") -> dict[str, Any]:
    """A conversation as the data source ``chat`` reads it.

    Args:
        item: With an answer.
        reasoning: ``before`` the answer, or ``none``.

    Example:
        >>> chat_row(Item("2 + 2?", answer="4"))["messages"][1]
        {'role': 'assistant', 'content': '4'}
    """
    thought = f"{item.reasoning}\n\n" if item.reasoning and reasoning == "before" else ""
    messages = [
        {"role": "user", "content": item.question},
        {"role": "assistant", "content": thought + item.answer},
    ]
    return {"id": item.id, "messages": messages}


def pair_row(item: Item) -> dict[str, Any]:
    """A preference pair: ``prompt``, ``chosen``, ``rejected``."""
    rejected = str(item.facts["rejected"])
    return {
        "id": item.id,
        "prompt": item.question,
        "chosen": item.answer,
        "rejected": rejected,
        "chosen_score": item.score,
        "rejected_score": item.facts.get("rejected_score"),
    }


def export(
    folder: Path, items: Sequence[Item], dropped: Sequence[Dropped], reasoning: Reasoning
) -> dict[str, dict[str, Any]]:
    """Write items, dropped ones, ``chat.jsonl`` and, of pairs, ``preferences.jsonl``.

    Returns:
        Of each file its rows and its SHA-256. Items without an answer are in ``items.jsonl`` alone.

    Raises:
        DataError: A file cannot be written.
    """
    pairs = [item for item in items if "rejected" in item.facts and item.answer]
    content: dict[str, list[dict[str, Any]]] = {
        "items.jsonl": [item.row() for item in items],
        "dropped.jsonl": [each.row() for each in dropped],
        "chat.jsonl": [chat_row(item, reasoning) for item in items if item.answer.strip()],
    }
    if pairs:
        content["preferences.jsonl"] = [pair_row(item) for item in pairs]
    told = {}
    for name, rows in content.items():
        write_rows(folder / name, rows)
        told[name] = {"rows": len(rows), "sha256": _sum(folder / name)}
    return told


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def as_text(facts: Any) -> str:
    """Plain data as it stands in ``synthesis.json``."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
