"""Requests in a server's words, and its answers in ours: chats, and plain texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from tutelage.core.errors import RecipeError
from tutelage.core.writing import Request, Written
from tutelage.teachers.remote.client import Answered, Weight, usage_of

Template = Callable[[tuple[tuple[str, str], ...]], str]
"""Makes one text of messages (role, text): how the model was taught to read a chat."""

Logprobs = tuple[tuple[str, float, tuple[tuple[str, float], ...]], ...]

_FINISHED = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length", None: "stop"}


class Route(Protocol):
    """One way to ask a server."""

    @property
    def path(self) -> str:
        """Where, below the server's address."""
        ...

    def body(self, request: Request, model: str) -> dict[str, Any]:
        """What is sent."""
        ...

    def text_of(self, choice: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """The text of an answer, and what else it tells."""
        ...

    def logprobs_of(self, choice: Mapping[str, Any]) -> Logprobs:
        """The log-probabilities of an answer's tokens."""
        ...


@dataclass(frozen=True)
class Chat:
    """``/v1/chat/completions``: the server makes a text of the messages.

    Attributes:
        limit: What the server calls the longest answer; OpenAI's own newer models know only
            ``max_completion_tokens``.
        extra: What else to send with every question, such as ``{"top_k": 20}``.

    Example:
        >>> Chat().body(Request("q", (("user", "Hi."),)), "small")["messages"]
        [{'role': 'user', 'content': 'Hi.'}]
    """

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict)
    path = "/chat/completions"

    def body(self, request: Request, model: str) -> dict[str, Any]:
        """What is sent."""
        messages = [{"role": role, "content": text} for role, text in request.messages]
        body = {"model": model, "messages": messages, self.limit: request.most_tokens}
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return body | _drawn(request) | dict(self.extra)

    def text_of(self, choice: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """The text of an answer, and its reasoning where the server tells it apart."""
        message = choice["message"]
        found = {}
        for name in ("reasoning_content", "reasoning", "refusal"):
            if isinstance(told := message.get(name), str) and told:
                found[name.removesuffix("_content")] = clean(told)
        return clean(message.get("content") or ""), found

    def logprobs_of(self, choice: Mapping[str, Any]) -> Logprobs:
        """The log-probabilities of an answer's tokens."""
        told = (choice.get("logprobs") or {}).get("content") or []
        return tuple(
            (
                clean(one["token"]),
                float(one["logprob"]),
                tuple((clean(t["token"]), float(t["logprob"])) for t in one["top_logprobs"]),
            )
            for one in told
        )


@dataclass(frozen=True)
class Plain:
    """``/v1/completions``: the model goes on with a text.

    Attributes:
        template: Makes the text of the messages; None takes a lone message as it is.
        extra: What else to send with every question.

    Example:
        >>> Plain().body(Request("q", (("user", "Once upon"),)), "small")["prompt"]
        'Once upon'
    """

    template: Template | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    path = "/completions"

    def body(self, request: Request, model: str) -> dict[str, Any]:
        """What is sent.

        Raises:
            RecipeError: There are several messages, and no template.
        """
        if self.template is None and len(request.messages) != 1:
            raise RecipeError(
                f"request {request.key!r} has {len(request.messages)} messages, and this route "
                "takes one text: give Plain a template, or ask by Chat."
            )
        text = self.template(request.messages) if self.template else request.messages[0][1]
        body: dict[str, Any] = {"model": model, "prompt": text, "max_tokens": request.most_tokens}
        if request.top_logprobs:
            body["logprobs"] = request.top_logprobs
        return body | _drawn(request) | dict(self.extra)

    def text_of(self, choice: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """The text of an answer."""
        return clean(choice.get("text") or ""), {}

    def logprobs_of(self, choice: Mapping[str, Any]) -> Logprobs:
        """The log-probabilities of an answer's tokens."""
        told = choice.get("logprobs") or {}
        rows = zip(
            told.get("tokens") or [],
            told.get("token_logprobs") or [],
            told.get("top_logprobs") or [],
            strict=True,
        )
        return tuple((clean(token), float(value), _ranked(top or {})) for token, value, top in rows)


def written_of(
    route: Route, request: Request, answered: Answered, weight: Weight, server: str
) -> Written:
    """What became of a request, in the words of the house; trouble is told, and raises nothing.

    Args:
        route: How it was asked.
        request: What was asked.
        answered: What came back.
        weight: How large it was reckoned, for servers that do not tell.
        server: Who is said to have written, where the answer does not tell.
    """
    if answered.data is None:
        return Written(request.key, "", "error", server, error=answered.error)
    data = answered.data
    try:
        choice = data["choices"][0]
        text, facts = route.text_of(choice)
        logprobs = route.logprobs_of(choice)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as wrong:
        told = f"the answer is of another form than was expected ({type(wrong).__name__}: {wrong})"
        return Written(request.key, "", "error", server, error=" ".join(told.split()))
    trouble = _trouble(choice, bool(request.top_logprobs and text and not logprobs))
    read, written = usage_of(data) or (weight.read, weight.most)
    return Written(
        request.key,
        text,
        "error" if trouble else _FINISHED[choice.get("finish_reason")],
        str(data.get("model") or server),
        read,
        written,
        trouble,
        logprobs,
        facts | _facts(answered, data, server),
    )


def _trouble(choice: Mapping[str, Any], untold: bool) -> str:
    if untold:
        return "the server told no log-probabilities: start it so that it does, or ask for none"
    reason = choice.get("finish_reason")
    if reason in _FINISHED:
        return ""
    return f"the server ended the answer for another reason: {reason!r:.80}"


def clean(text: str) -> str:
    """A text without halves of characters, which JSON allows and nothing else can read.

    >>> clean("a" + chr(0xD83D) + "b") == "a" + chr(0xFFFD) + "b"
    True
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _facts(answered: Answered, data: Mapping[str, Any], server: str) -> dict[str, str]:
    facts = {
        "server": server,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": f"{answered.seconds:.3f}",
        "tries": str(answered.tries),
    }
    if isinstance(print_ := data.get("system_fingerprint"), str):
        facts["system_fingerprint"] = print_
    if usage_of(data) is None:
        facts["tokens"] = "reckoned, not told by the server"
    return facts


def _drawn(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p}
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    return body


def _ranked(top: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    pairs: Sequence[tuple[str, float]] = [(clean(text), float(p)) for text, p in top.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))
