"""Tasks of one's own: multiple choice and exact match, from a YAML file and JSON lines."""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, suggest
from tutelage.core.text import TextTokenizer
from tutelage.data.paths import existing
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.language.likelihood import likelihoods
from tutelage.evaluation.language.reading import Answer

KINDS = ("multiple_choice", "exact_match")
_KEYS = {"name", "kind", "items", "shots", "stop", "most", "lower", "strip_punctuation", "about"}
_ITEM = ("prompt", "answer", "choices")
_MOST = 32

Write = Callable[[Sequence[str], tuple[str, ...]], Sequence[str]]
"""From prompts and texts that end an answer to answers."""


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        prompt: What stands before the answer.
        answer: What is right: one of ``choices``, or the text that is to be written.
        choices: Of a multiple choice; empty otherwise.
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A list of questions.

    Attributes:
        name: Of the task.
        kind: ``multiple_choice`` or ``exact_match``.
        items: The questions.
        shots: How many questions with their answers stand before each; the last ones of the task,
            which are then not asked.
        stop: Texts that end an answer.
        most: Tokens of a written answer.
        lower: Whether letters' case is left out of the comparison.
        strip_punctuation: Whether punctuation is.
    """

    name: str
    kind: str
    items: tuple[Item, ...]
    shots: int = 0
    stop: tuple[str, ...] = ("\n",)
    most: int = _MOST
    lower: bool = True
    strip_punctuation: bool = True

    @property
    def asked(self) -> tuple[Item, ...]:
        """The questions without those that serve as examples."""
        return self.items[: len(self.items) - self.shots]

    def prompt(self, item: Item) -> str:
        """A question as the model sees it, after the examples."""
        shown = self.items[len(self.items) - self.shots :]
        return "".join(f"{each.prompt}{each.answer}\n\n" for each in shown) + item.prompt


def load_task(path: str | Path) -> Task:
    """A task from a YAML file; ``items`` are in it, or name a JSONL file beside it.

    Each item has ``prompt`` and ``answer``, those of a multiple choice also ``choices``; there the
    answer is one of them, or its number from 0.

    Raises:
        DataError: One line: what is wrong, where, and what is expected.
    """
    import yaml

    path = existing(path, "the task")
    try:
        # Every word stays a word: YAML 1.1 would make booleans of the choices yes and no.
        written = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"the task {path} cannot be read ({reason:.200}).") from error
    if not isinstance(written, dict):
        raise DataError(f"the task {path} is no mapping: write name, kind and items.")
    for key in written:
        if key not in _KEYS:
            raise DataError(f"the task {path} has a key {key!r}. {suggest(str(key), _KEYS)}")
    kind = written.get("kind")
    if kind not in KINDS:
        raise DataError(f"the task {path} has the kind {kind!r}, expected {' or '.join(KINDS)}.")
    items = written.get("items")
    if isinstance(items, str):
        items = _lines(path.parent / items)
    if not isinstance(items, list) or not items:
        raise DataError(f"the task {path} has no items: list them, or name a .jsonl file.")
    made = tuple(_item(each, kind, f"{path}, item {i}") for i, each in enumerate(items, start=1))
    shots = str(written.get("shots", 0))
    if not shots.isdigit() or int(shots) >= len(made):
        raise DataError(f"the task {path} has {len(made)} items and {shots} shots.")
    stop = written.get("stop", ["\n"])
    return Task(
        str(written.get("name", path.stem)),
        kind,
        made,
        shots=int(shots),
        stop=(stop,) if isinstance(stop, str) else tuple(map(str, stop)),
        most=_count(written, "most", path, _MOST),
        lower=_flag(written, "lower", path),
        strip_punctuation=_flag(written, "strip_punctuation", path),
    )


def answer_task(
    task: Task, model: Answer, tokenizer: TextTokenizer, *, longest: int, write: Write | None = None
) -> dict[str, Any]:
    """How many questions a model answers rightly, with Wilson's interval.

    A choice is taken by its log-likelihood (``accuracy``), and by that over the bytes of the choice
    (``accuracy_by_bytes``), which does not favour short ones. An exact match compares the written
    answer without outer spaces, and without case and punctuation as the task says.

    Args:
        task: The questions.
        model: Who answers.
        tokenizer: The model's.
        longest: Tokens it reads at most.
        write: Writes answers, for ``exact_match`` (`tutelage.evaluation.language.writing`).

    Returns:
        ``name``, ``kind``, ``items``, ``right`` (a list of bool, to compare models by),
        ``accuracy`` with its interval, and for choices ``accuracy_by_bytes``.
    """
    if task.kind == "exact_match":
        if write is None:
            raise DataError(f"the task {task.name} needs a model that writes.")
        said = write([task.prompt(item) for item in task.asked], task.stop)
        right = [
            _plain(text, task) == _plain(item.answer, task)
            for text, item in zip(said, task.asked, strict=True)
        ]
        return _told(task, right)
    pairs = [(task.prompt(item), choice) for item in task.asked for choice in item.choices]
    found = iter(likelihoods(model, tokenizer, pairs, longest=longest))
    right, by_bytes = [], []
    for item in task.asked:
        some = [next(found) for _ in item.choices]
        best = max(range(len(some)), key=lambda i: some[i].log_p)
        long = max(range(len(some)), key=lambda i: some[i].log_p / max(some[i].text_bytes, 1))
        right.append(item.choices[best] == item.answer)
        by_bytes.append(item.choices[long] == item.answer)
    return {**_told(task, right), "accuracy_by_bytes": sum(by_bytes) / len(by_bytes)}


def _told(task: Task, right: list[bool]) -> dict[str, Any]:
    share = wilson(sum(right), len(right))
    return {
        "name": task.name,
        "kind": task.kind,
        "items": len(right),
        "accuracy": share.as_dict(),
        "right": right,
    }


def _plain(text: str, task: Task) -> str:
    for stop in task.stop:
        text = text.split(stop, 1)[0]
    if task.lower:
        text = text.lower()
    if task.strip_punctuation:
        text = text.translate(str.maketrans("", "", string.punctuation))
    return " ".join(text.split())


def _item(written: Any, kind: str, where: str) -> Item:
    if not isinstance(written, Mapping):
        raise DataError(f"{where}: expected prompt and answer, got {written!r:.80}.")
    for key in written:
        if key not in _ITEM:
            raise DataError(f"{where}: there is no key {key!r}. {suggest(str(key), _ITEM)}")
    if not {"prompt", "answer"} <= set(written):
        raise DataError(f"{where}: expected prompt and answer, got {dict(written)!r:.80}.")
    choices = written.get("choices", [])
    if kind == "exact_match":
        return Item(str(written["prompt"]), str(written["answer"]))
    if not isinstance(choices, list) or len(choices) < 2:
        raise DataError(
            f"{where}: a multiple choice has two choices at least, got {choices!r:.80}."
        )
    choices, answer = [str(each) for each in choices], str(written["answer"])
    if answer not in choices and answer.isdigit():
        if int(answer) >= len(choices):
            raise DataError(f"{where}: the answer is number {answer} of {len(choices)} choices.")
        answer = choices[int(answer)]
    if answer not in choices or len(set(choices)) < len(choices):
        raise DataError(f"{where}: the answer {answer!r:.60} is not one of the different choices.")
    return Item(str(written["prompt"]), answer, tuple(choices))


def _count(written: Mapping[str, Any], key: str, path: Path, usual: int) -> int:
    value = str(written.get(key, usual))
    if not value.isdigit() or int(value) < 1:
        raise DataError(f"the task {path} has {key}: {value!r:.40}, expected 1 or more.")
    return int(value)


def _flag(written: Mapping[str, Any], key: str, path: Path) -> bool:
    value = str(written.get(key, "true")).lower()
    if value not in ("true", "false"):
        raise DataError(f"the task {path} has {key}: {value!r:.40}, expected true or false.")
    return value == "true"


def _lines(path: Path) -> list[Any]:
    found = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                try:
                    found.append(json.loads(line))
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: no JSON ({error}).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the items {path} cannot be read ({error}).") from error
    return found
