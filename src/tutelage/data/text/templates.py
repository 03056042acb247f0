"""Conversations as tokens, and exactly which of them the assistant wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tutelage.core.errors import DataError
from tutelage.core.text import TextTokenizer
from tutelage.data.text.conversations import Conversation
from tutelage.data.text.packing import Marks
from tutelage.data.text.tokenizing import Tokens


@dataclass(frozen=True)
class Piece:
    """A stretch of a written conversation.

    Attributes:
        text: The words.
        counted: Whether they are to be predicted.
        closes: Whether the tokenizer's end token follows, which then counts as well.
    """

    text: str
    counted: bool = False
    closes: bool = False


@runtime_checkable
class Templated(Protocol):
    """A tokenizer that may know how its model is talked to."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """How its special tokens are spelt."""
        ...

    @property
    def literal(self) -> bool:
        """Whether those are text like any other where a text spells them."""
        ...

    @property
    def render(self) -> "Renders | None":
        """Writes a conversation; None where there is no template."""
        ...


class Renders(Protocol):
    """A chat template."""

    def __call__(self, messages: Sequence[tuple[str, str]], asking: bool, /) -> str:
        """Messages (role, text) as one text; with the words that ask for an answer, if so."""
        ...


def plain(conversation: Conversation, learnt: Sequence[int]) -> list[Piece]:
    r"""A conversation in the built-in template; an answer ends with the tokenizer's end token.

    >>> said = Conversation((("user", "2+2?"), ("assistant", "4")), "line 1")
    >>> [(piece.text, piece.counted) for piece in plain(said, [1])]
    [('User: 2+2?\nAssistant:', False), (' 4', True)]

    Args:
        conversation: What was said.
        learnt: The places of the answers that count.
    """
    pieces: list[Piece] = []
    written = ""
    for place, (role, text) in enumerate(conversation.messages):
        if role == "assistant":
            pieces.append(Piece(f"{written}Assistant:"))
            pieces.append(Piece(f" {text}", place in learnt, closes=True))
            written = "\n"
        else:
            written += f"User: {text}\n" if role == "user" else f"{text}\n\n"
    return pieces


def rendered(
    conversation: Conversation, tokenizer: Templated, learnt: Sequence[int]
) -> list[Piece]:
    """A conversation in the tokenizer's own template.

    An answer is what the template writes after the words that ask for it, up to and with the
    special token that ends it: what the model itself would have to write.

    Args:
        conversation: What was said.
        tokenizer: Has a template.
        learnt: The places of the answers that count, ascending.

    Raises:
        DataError: The template has no end of an answer, or writes an answer otherwise once more
            follows.
    """
    render, messages = tokenizer.render, conversation.messages
    assert render is not None
    whole = render(messages, False)
    pieces, done = [], 0
    for place in learnt:
        before = render(messages[:place], True)
        so_far = render(messages[: place + 1], False)
        stop = _end_of_answer(so_far, len(before), tokenizer)
        if not so_far.startswith(before) or whole[:stop] != so_far[:stop] or len(before) < done:
            raise DataError(
                f"the chat template of {tokenizer.name} writes answer {place + 1} of "
                f"{conversation.place} otherwise once more is said, so that what the model would "
                "write cannot be told: use learn: last, or template: plain."
            )
        pieces += [Piece(whole[done : len(before)]), Piece(whole[len(before) : stop], True)]
        done = stop
    return pieces


def marked(
    pieces: Sequence[Piece], tokenizer: TextTokenizer, *, begin: bool = False
) -> tuple[Tokens, Marks]:
    """Pieces as tokens ``(L,)``, and which of them count ``(L,)``.

    No token is partly question and partly answer: where one would be, the two are cut into tokens
    each by itself, as they are when the model is asked.

    Args:
        pieces: What is written.
        tokenizer: Cuts it.
        begin: Whether the tokenizer's own first token comes first, where it has one; a chat
            template has written it already.

    Raises:
        DataError: An answer is to be closed, and the tokenizer has no end token.
    """
    tokens = [tokenizer.begin] if begin and tokenizer.begin is not None else []
    counted = [False] * len(tokens)
    run: list[Piece] = []
    for piece in pieces:
        run.append(piece)
        if piece.closes:
            if tokenizer.end is None:
                raise DataError(
                    f"tokenizer {tokenizer.name} has no token that ends an answer: use another."
                )
            _add(run, tokenizer, tokens, counted)
            tokens.append(tokenizer.end)
            counted.append(piece.counted)
            run = []
    _add(run, tokenizer, tokens, counted)
    return np.asarray(tokens, np.int32), np.asarray(counted, bool)


def _add(
    run: Sequence[Piece], tokenizer: TextTokenizer, tokens: list[int], counted: list[bool]
) -> None:
    encoded = tokenizer.encode("".join(piece.text for piece in run))
    stops = np.cumsum([len(piece.text.encode()) for piece in run]).tolist()
    if any(start < stop < end for start, end in encoded.spans for stop in stops):
        for piece in run:
            part = tokenizer.encode(piece.text).tokens
            tokens += part
            counted += [piece.counted] * len(part)
        return
    tokens += encoded.tokens
    owners = np.searchsorted(stops, [start for start, _ in encoded.spans], side="right")
    counted += [run[min(owner, len(run) - 1)].counted for owner in owners.tolist()]


def _end_of_answer(text: str, start: int, tokenizer: Templated) -> int:
    """Where the answer that ``text`` ends with is over, its end token included."""
    answer = text[start:].rstrip()
    for marker in tokenizer.markers:
        if marker and answer.endswith(marker):
            return start + len(answer)
    raise DataError(
        f"the chat template of {tokenizer.name} ends an answer by no special token, so that a "
        "student would never learn to stop: use template: plain."
    )


def refuse_markers(conversation: Conversation, tokenizer: Templated) -> None:
    """Refuse a message that spells a special token, where that would be taken for one.

    Raises:
        DataError: It does.
    """
    if tokenizer.literal:
        return
    for role, text in conversation.messages:
        for marker in tokenizer.markers:
            if marker and marker in text:
                raise DataError(
                    f"a message of the {role} in {conversation.place} spells the special token "
                    f"{marker!r} of {tokenizer.name}, which would end or begin something there: "
                    "take it out."
                )
