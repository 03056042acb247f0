"""Two ways in which servers tell the likeliest tokens at each place of a given text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tutelage.core.errors import RecipeError, ServerError
from tutelage.teachers.remote.words import Words

Told = list[tuple[int | None, float]]
"""Candidates at one place, each a token's number (None for one that is not known) and log p."""


class Telling(Protocol):
    """How given tokens are scored."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    @property
    def late(self) -> bool:
        """Whether the server tells at each token what comes after it, and not before it."""
        ...

    @property
    def texts(self) -> bool:
        """Whether texts are sent, and not numbers."""
        ...

    def body(self, tokens: Sequence[int], k: int, words: Words) -> dict[str, Any]:
        """What is sent, but for the model."""
        ...

    def read(
        self, choice: Mapping[str, Any], tokens: Sequence[int], words: Words
    ) -> list[Told | None]:
        """What is told at each token sent, None where nothing is.

        Raises:
            ServerError: The server read other tokens than were sent, or tells nothing.
        """
        ...


@dataclass(frozen=True)
class PromptLogprobs:
    """vLLM's ``prompt_logprobs`` on ``/v1/completions``: numbers in, numbers out.

    At token i stands the distribution before it: what the model expected there, given all tokens
    before. The k likeliest are told, and the token itself where it is none of them.
    """

    name = "prompt_logprobs"
    late = False
    texts = False

    def body(self, tokens: Sequence[int], k: int, words: Words) -> dict[str, Any]:
        """What is sent, but for the model."""
        return {
            "prompt": list(tokens),
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": k,
            "return_token_ids": True,
        }

    def read(
        self, choice: Mapping[str, Any], tokens: Sequence[int], words: Words
    ) -> list[Told | None]:
        """What is told at each token sent."""
        rows = choice.get("prompt_logprobs")
        if not isinstance(rows, list):
            raise ServerError(
                "the server tells no prompt_logprobs, so it scores no given tokens in this way: "
                "ask vLLM, or use Echo()."
            )
        read = choice.get("prompt_token_ids")
        _same_length(len(rows), len(tokens))
        if isinstance(read, list) and read != list(tokens):
            place = next(i for i, (a, b) in enumerate(zip(read, tokens, strict=True)) if a != b)
            raise _other(place, read[place], tokens[place])
        spelled = []
        for place, (row, token) in enumerate(zip(rows[1:], tokens[1:], strict=True), 1):
            if str(token) not in row:
                raise _other(place, "another one", token)
            spelled.append(row[str(token)].get("decoded_token") or "")
        if words.strange(tokens[1:], spelled):
            raise _another_tokenizer(words)
        every: list[Told] = [
            [(int(i), one["logprob"]) for i, one in row.items()] for row in rows[1:]
        ]
        return [None, *every]


@dataclass(frozen=True)
class Echo:
    """``echo`` with ``logprobs`` on ``/v1/completions``: the older way, and llama.cpp's for Python.

    Candidates are told by their text, or as ``token_id:17`` where the server can
    (``return_tokens_as_token_ids`` of vLLM). What several tokens are spelled as, or none, is not
    known and stays in the tail.

    Attributes:
        send: ``tokens`` where the server takes numbers, else ``text``, which it cuts into tokens
            itself: they are held against those that were meant.
        late: Take what stands at a token as what comes after it. llama-cpp-python 0.3 tells it so
            for models without a token that begins a text; it is never guessed, but tried out
            before the first answer.

    Raises:
        RecipeError: ``send`` is neither.
    """

    send: Literal["tokens", "text"] = "tokens"
    late: bool = False
    name = "echo"

    def __post_init__(self) -> None:
        if self.send not in ("tokens", "text"):
            raise RecipeError(f"send is {self.send!r}, expected 'tokens' or 'text'.")

    @property
    def texts(self) -> bool:
        """Whether texts are sent, and not numbers."""
        return self.send == "text"

    def body(self, tokens: Sequence[int], k: int, words: Words) -> dict[str, Any]:
        """What is sent, but for the model."""
        return {"echo": True} | following(tokens, k, words, self.texts)

    def read(
        self, choice: Mapping[str, Any], tokens: Sequence[int], words: Words
    ) -> list[Told | None]:
        """What is told at each token sent."""
        told, rows = _columns(choice)
        begin = 1 if words.tokenizer and tokens[0] == words.tokenizer.begin else 0
        for left_out in range(begin + 1):
            rest = tokens[left_out:]
            if len(told) >= len(rest) and all(map(words.same, rest, told)):
                every = [_candidates(row, words) for row in rows[: len(rest)]]
                return [*(None for _ in range(left_out)), *every]
        _same_length(len(told), len(tokens), more=1)
        pairs = enumerate(zip(tokens, told, strict=False))
        place = next((i for i, (token, word) in pairs if not words.same(token, word)), 0)
        raise _other(place, repr(told[place]), tokens[place])


def enough(told: Sequence[Told | None], k: int) -> None:
    """Refuse a server that tells fewer candidates than were asked for.

    Where they are told by text, several may share one, and there are fewer for that.

    Raises:
        ServerError: There are fewer at every place, or by text fewer than half; or none of them has
            a number.
    """
    every = [[number for number, _ in one] for one in told if one is not None]
    numbers = [number for one in every for number in one]
    if numbers and all(number is None for number in numbers):
        raise ServerError(
            "the server tells candidates by texts that stand for no token: give the teacher's "
            "tokenizer=, or ask a server that tells numbers."
        )
    most = max(map(len, every), default=k)
    if most < (k / 2 if None in numbers else k):
        raise ServerError(
            f"the server tells {most} candidates at a place where {k} were asked for: lower k, or "
            f"let the server tell more (vLLM: --max-logprobs {k})."
        )


def following(tokens: Sequence[int], k: int, words: Words, texts: bool) -> dict[str, Any]:
    """A question for the token after these, with its likeliest candidates."""
    prompt: Any = words.text_of(tokens) if texts else list(tokens)
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 1.0, "logprobs": k}
    return body if texts else body | {"return_tokens_as_token_ids": True}


def followed(choice: Mapping[str, Any], words: Words) -> Told | None:
    """What is told of the token after those of `following`."""
    _, rows = _columns(choice)
    return _candidates(rows[0], words) if rows else None


def _columns(choice: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    told = choice.get("logprobs")
    if not isinstance(told, dict) or not isinstance(told.get("top_logprobs"), list):
        raise ServerError(
            "the server tells no log-probabilities: start it so that it does (llama-cpp-python: "
            "--logits_all true), or ask another."
        )
    return told["tokens"], told["top_logprobs"]


def _candidates(row: Mapping[str, float] | None, words: Words) -> Told | None:
    if row is None:
        return None
    return [(words.number(told), float(p)) for told, p in row.items()]


def _same_length(read: int, sent: int, more: int = 0) -> None:
    if sent <= read <= sent + more:
        return
    why = "puts one of its own in front (BOS)" if read == sent + 1 + more else "reads other tokens"
    raise ServerError(
        f"the server read {read} tokens where {sent} were sent: it {why}, so that places do not "
        "match: begin each text with the token that it adds, or send numbers."
    )


def _other(place: int, read: object, sent: int) -> ServerError:
    return ServerError(
        f"at place {place} the server read {read}, and token {sent} was sent: it cuts the text in "
        "another way, so that places do not match: send numbers, or use its tokenizer."
    )


def _another_tokenizer(words: Words) -> ServerError:
    name = words.tokenizer.name if words.tokenizer else "the batch's"
    return ServerError(
        f"the server spells the tokens in another way than {name} does: it has another tokenizer; "
        "cut texts with that of the teacher."
    )
