"""Conversations: what a language model answers with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.core.text import TextTokenizer
from tutelage.data.splits import Splits
from tutelage.data.text.building import (
    SPLITS,
    Documents,
    asked_for,
    check_word,
    given_files,
    source_of,
    splits_of,
)
from tutelage.data.text.conversations import Conversation, conversations
from tutelage.data.text.dividing import by_documents
from tutelage.data.text.packing import Marks
from tutelage.data.text.reading import files_of
from tutelage.data.text.templates import Templated, marked, plain, refuse_markers, rendered
from tutelage.data.text.tokenizing import Tokens, tokenizer_of

_KNOWN = {
    "template": ("tokenizer", "plain"),
    "learn": ("all", "last"),
    "empty": ("refuse", "drop"),
    "long": ("refuse", "drop", "cut"),
}
_TREATMENT = (
    "Conversations are written by the template '{template}' and cut into tokens by the tokenizer "
    "named here; only what the assistant says, with its end token, is to be predicted."
)


@register("data", "chat")
def chat(
    path: str | list[str],
    tokenizer: str | dict[str, Any],
    length: int = 512,
    template: str | None = None,
    learn: str = "all",
    pack: bool = False,
    empty: str = "refuse",
    long: str = "refuse",
    validation_path: str | list[str] | None = None,
    test_path: str | list[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Splits:
    """Conversations in JSON Lines: what the assistant says is predicted, and nothing else.

    A line is ``{"messages": [{"role": "user", "content": ...}, ...]}`` with the roles system, user
    and assistant, or ``{"prompt": ..., "answer": ...}``. The mask holds exactly for the tokens of
    answers and for the token that ends each. Conversations that begin alike stay together in one
    split.

    Args:
        path: Files, or folders whose ``.jsonl`` files are taken in the order of their names.
        tokenizer: ``{hf: {path: folder}}``, ``bytes`` or another.
        length: Tokens that are read at once.
        template: ``tokenizer``, the chat template that a Hugging Face model came with, or
            ``plain``, a built-in one; None for the first where there is one.
        learn: ``all`` answers of a conversation, or the ``last``.
        pack: Whether whole conversations share rows, without being predicted from one another.
        empty: Conversations with an answer without words: ``refuse`` or ``drop`` them; ``origin``
            says how many.
        long: Those of more than ``length`` + 1 tokens: ``refuse``, ``drop``, or ``cut`` their end
            off (and drop them where no answer is left).
        validation_path: Files of the validation split.
        test_path: Files of the test split.
        validation: A fraction of the conversations, or a count; None for 0.1. Not with
            ``validation_path``.
        test: Likewise, taken out first.
        encoding: Of all files.
        seed: Which ones are taken out.

    Returns:
        Splits of rows of tokens; ``origin`` says how many conversations of validation and test
        begin like one of train (``shared_openings``).

    Raises:
        DataError: A file is missing or broken, a role unknown, an answer empty, a conversation too
            long, or a word is none of those named here.
    """
    words = {"template": template or "plain", "learn": learn, "empty": empty, "long": long}
    for option, written in words.items():
        check_word("chat", option, written, _KNOWN[option])
    paths = given_files(path, validation_path, test_path)
    missing = asked_for(paths, {"validation": validation, "test": test}, "chat")
    read = {name: _read(files, name, encoding) for name, files in paths.items()}
    if missing:
        keys = [repr(each.opening) for each in read["train"]]
        chosen = by_documents(keys, missing, seed, "chat")
        read |= {name: [read["train"][i] for i in rows] for name, rows in chosen.items()}
    said = [text for each in read["train"] for _, text in each.messages]
    rules = _Rules(tokenizer_of(tokenizer, said), template, learn, empty, long, length)
    dropped: Counter[str] = Counter()
    found = {name: _documents(read[name], rules, dropped) for name in SPLITS}
    _need_some(found, dropped)
    known = {each.opening for each in read["train"]}
    origin = {
        "source": "chat",
        "path": path,
        "validation_path": validation_path,
        "test_path": test_path,
        "template": rules.template,
        "learn": learn,
        "shared_openings": {
            name: sum(each.opening in known for each in read[name]) for name in SPLITS[1:]
        },
        "dropped_empty": dropped["empty"],
        "dropped_long": dropped["long"],
        "cut": dropped["cut"],
        "seed": seed,
    }
    return splits_of(
        found,
        rules.tokenizer,
        length=length,
        together=pack,
        name="chat",
        origin=origin,
        treatment=_TREATMENT.format(template=rules.template),
    )


class _Rules:
    """How conversations become tokens."""

    def __init__(
        self,
        tokenizer: TextTokenizer,
        template: str | None,
        learn: str,
        empty: str,
        long: str,
        length: int,
    ):
        own = isinstance(tokenizer, Templated) and tokenizer.render is not None
        if template == "tokenizer" and not own:
            raise DataError(f"tokenizer {tokenizer.name} has no chat template: write plain.")
        self.template = template or ("tokenizer" if own else "plain")
        self.tokenizer, self.learn, self.length = tokenizer, learn, length
        self.empty, self.long = empty, long

    def learnt(self, said: Conversation) -> list[int]:
        """The places of the answers that count."""
        return said.answers if self.learn == "all" else said.answers[-1:]

    def tokens(self, said: Conversation) -> tuple[Tokens, Marks]:
        """A conversation as tokens, and which of them count."""
        cutter, learnt = self.tokenizer, self.learnt(said)
        if isinstance(cutter, Templated):
            refuse_markers(said, cutter)
            if self.template == "tokenizer":
                return marked(rendered(said, cutter, learnt), cutter)
        return marked(plain(said, learnt), cutter, begin=True)


def _documents(read: Sequence[Conversation], rules: _Rules, dropped: Counter[str]) -> Documents:
    found = Documents()
    for said in read:
        made = _made(said, rules, dropped)
        if made is not None:
            found.tokens.append(made[0])
            found.counted.append(made[1])
    return found


def _made(said: Conversation, rules: _Rules, dropped: Counter[str]) -> tuple[Tokens, Marks] | None:
    """Tokens and marks of one conversation; None where it is dropped."""
    if not all(said.messages[place][1].strip() for place in rules.learnt(said)):
        _drop("empty", rules.empty, f"{said.place} has an empty answer", dropped)
        return None
    tokens, counted = rules.tokens(said)
    most = rules.length + 1
    if len(tokens) > most:
        left = rules.long == "cut" and bool(counted[1:most].any())
        if not left:
            option = "refuse" if rules.long == "refuse" else "drop"
            why = f"{said.place} has {len(tokens)} tokens, more than length {rules.length} and one"
            _drop("long", option, why, dropped)
            return None
        tokens, counted = tokens[:most], counted[:most]
        dropped["cut"] += 1
    last = int(np.flatnonzero(counted)[-1]) + 1  # nothing is learnt from what follows
    return tokens[:last], counted[:last]


def _drop(kind: str, option: str, why: str, dropped: Counter[str]) -> None:
    if option == "refuse":
        also = " or cut, or give a greater length" if kind == "long" else ""
        raise DataError(f"{why}: mend it, or write {kind}: drop{also}.")
    dropped[kind] += 1


def _need_some(found: Mapping[str, Documents], dropped: Counter[str]) -> None:
    for name, documents in found.items():
        if not documents.tokens:
            raise DataError(
                f"chat {name} has no conversation left ({dropped['empty']} with empty answers and "
                f"{dropped['long']} too long ones were dropped in all): bring more, or give a "
                "greater length."
            )


def _read(paths: str | list[str], name: str, encoding: str) -> list[Conversation]:
    what = source_of("chat", name)
    files = files_of(paths, what, (".jsonl",))
    return [each for file in files for each in conversations(file, what, encoding)]
