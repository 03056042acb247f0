"""Somebody here who writes text: a causal model, many requests at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError, TutelageError
from tutelage.core.outputs import dense
from tutelage.core.seeds import derive
from tutelage.core.text import TextTokenizer
from tutelage.core.writing import Request, Written
from tutelage.models.generation import Draw, generate
from tutelage.models.observed import Frozen, Observed
from tutelage.models.weights import weights_hash

Messages = tuple[tuple[str, str], ...]
Template = Callable[[Messages], str]
"""Makes one text of messages (role, text), up to where the answer begins."""


@runtime_checkable
class Rendering(Protocol):
    """A tokenizer that knows how its model is talked to."""

    @property
    def render(self) -> Callable[[Sequence[tuple[str, str]], bool], str] | None:
        """Makes a text of messages, with the words that ask for an answer if so told."""
        ...


def dialogue(messages: Messages) -> str:
    r"""Messages as plain text, for models that were taught no template.

    >>> dialogue((("system", "Be brief."), ("user", "2 + 2?")))
    'Be brief.\n\nUser: 2 + 2?\nAssistant:'
    """
    words = {"user": "User: {}\n", "assistant": "Assistant: {}\n"}
    return "".join(words.get(role, "{}\n\n").format(text) for role, text in messages) + "Assistant:"


@dataclass(frozen=True)
class _Asked:
    """A request as tokens."""

    request: Request
    prompt: tuple[int, ...]


class LocalWriter:
    """Writes by a causal model that lies here: a `tutelage.core.writing.Writer`.

    What is written depends on the request, its seed and the model; not on which requests are
    answered together, nor on their order. Requests of one temperature, ``top_p`` and length go
    together, padded on the left.

    Args:
        observed: The model, of logits ``(N, T, V)`` that tell the next token.
        tokenizer: The model's own.
        batch_size: Requests answered together.
        seed: Of requests that bring none.
        template: Makes a text of messages; None takes the tokenizer's own, where it has one, and
            else `dialogue`.
        name: Of the model, in records; None for its class and a hash of its weights.

    Raises:
        RecipeError: The batch size is below 1.

    Example:
        >>> from tutelage.models import Observed
        >>> writer = LocalWriter(Observed(torch.nn.Linear(2, 2)), None, seed=0, name="small")
        >>> writer.name
        'small'
    """

    def __init__(
        self,
        observed: Observed | Frozen,
        tokenizer: TextTokenizer,
        *,
        batch_size: int = 8,
        seed: int = 0,
        template: Template | None = None,
        name: str | None = None,
    ):
        if batch_size < 1:
            raise RecipeError(f"batch_size is {batch_size}, expected at least 1 request.")
        self._model, self._tokenizer = observed, tokenizer
        self._batch_size, self._seed = batch_size, seed
        self._template, self._name = template or _template_of(tokenizer), name

    @cached_property
    def name(self) -> str:
        """What messages and records call it."""
        if self._name is not None:
            return self._name
        model = self._model.observed if isinstance(self._model, Frozen) else self._model
        return f"{type(model.model).__name__} {weights_hash(model.model)[:12]}"

    def write(self, requests: Iterable[Request]) -> Iterator[Written]:
        """The answers, a batch at a time; each request gets exactly one."""
        waiting: dict[Draw, list[_Asked]] = {}
        for request in requests:
            try:
                asked, draw = self._read(request)
            except TutelageError as error:
                yield self._failed(request, error)
                continue
            row = waiting.setdefault(draw, [])
            row.append(asked)
            if len(row) == self._batch_size:
                yield from self._answers(waiting.pop(draw), draw)
        for draw, rest in waiting.items():
            yield from self._answers(rest, draw)

    def _read(self, request: Request) -> tuple[_Asked, Draw]:
        tokenizer = self._tokenizer
        prompt = tokenizer.encode(self._template(request.messages)).tokens
        # A template may have written it already: a text begins once.
        if tokenizer.begin is not None and prompt[:1] != (tokenizer.begin,):
            prompt = (tokenizer.begin, *prompt)
        if not prompt:
            raise ModelError(f"request {request.key!r} is empty, and a model goes on with a text.")
        draw = Draw(
            request.most_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            end=tokenizer.end,
        )
        return _Asked(request, prompt), draw

    def _answers(self, asked: Sequence[_Asked], draw: Draw) -> Iterator[Written]:
        """Together, or each alone where one of them cannot be answered."""
        try:
            written = self._together(asked, draw)
        except TutelageError as error:
            if len(asked) == 1:
                written = [self._failed(asked[0].request, error)]
            else:
                written = [one for each in asked for one in self._answers([each], draw)]
        yield from written

    def _together(self, asked: Sequence[_Asked], draw: Draw) -> list[Written]:
        longest = max(len(one.prompt) for one in asked)
        prompt = torch.full((len(asked), longest), self._tokenizer.padding)
        mask = torch.zeros_like(prompt)
        for row, one in enumerate(asked):
            prompt[row, longest - len(one.prompt) :] = torch.tensor(one.prompt)
            mask[row, longest - len(one.prompt) :] = 1
        ids = torch.tensor([self._stream(one.request) for one in asked])
        home = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        found = generate(
            self._model, prompt.to(home), mask.to(home), draw, seed=0, ids=ids.to(home)
        )
        tokens, written = found.tokens[:, longest:].cpu(), found.written[:, longest:].cpu()
        log_p = found.log_probs.cpu()
        return [
            self._told(one, tokens[row][written[row]], log_p[row][written[row]])
            for row, one in enumerate(asked)
        ]

    def _stream(self, request: Request) -> int:
        """The number that a request's draws follow from, whoever is answered along with it."""
        if request.seed is not None:
            return derive(request.seed, "asked for")
        return derive(self._seed, "written", request.key)

    def _told(self, asked: _Asked, tokens: Tensor, log_p: Tensor) -> Written:
        request, tokenizer = asked.request, self._tokenizer
        numbers = tokens.tolist()
        ended = bool(numbers) and numbers[-1] == tokenizer.end
        text = tokenizer.decode(numbers[:-1] if ended else numbers)
        cut = min((at for stop in request.stop if (at := text.find(stop)) >= 0), default=None)
        told = self._likeliest(asked, numbers, log_p) if request.top_logprobs else ()
        return Written(
            request.key,
            text[:cut],
            "stop" if ended or cut is not None else "length",
            self.name,
            len(asked.prompt),
            len(numbers),
            logprobs=told,
            facts={"tokenizer": tokenizer.name},
        )

    @torch.no_grad()
    def _likeliest(
        self, asked: _Asked, numbers: Sequence[int], log_p: Tensor
    ) -> tuple[tuple[str, float, tuple[tuple[str, float], ...]], ...]:
        """Each token written, and the likeliest ones there: one more look at the whole text."""
        if not numbers:
            return ()
        home = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        # What is told of a token stands at the one before it.
        ids = torch.tensor([[*asked.prompt, *numbers[:-1]]], device=home)
        logits = dense(self._model(Batch({"input_ids": ids})), "a writer")
        every = logits[0, len(asked.prompt) - 1 :].float().log_softmax(-1)
        best = every.topk(min(asked.request.top_logprobs, every.shape[-1]), -1)
        word = self._tokenizer.token_bytes

        def text(token: int) -> str:
            return word(token).decode("utf-8", "replace")

        rows = zip(
            numbers, log_p.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        )
        return tuple(
            (text(own), p, tuple((text(n), each) for n, each in zip(top, told, strict=True)))
            for own, p, top, told in rows
        )

    def _failed(self, request: Request, error: TutelageError) -> Written:
        return Written(request.key, "", "error", self.name, error=str(error))


def _template_of(tokenizer: TextTokenizer) -> Template:
    if isinstance(tokenizer, Rendering) and (render := tokenizer.render) is not None:
        return lambda messages: render(messages, True)
    return dialogue
