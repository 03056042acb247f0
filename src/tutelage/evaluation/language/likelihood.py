"""How likely a model holds given continuations of given texts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.outputs import dense
from tutelage.core.text import TextTokenizer
from tutelage.evaluation.language.reading import _LOGITS, Answer
from tutelage.evaluation.predict import _device, evaluating

_Row = tuple[tuple[int, ...], int]
"""Tokens, and the number of the first that counts; it is one at least."""


@dataclass(frozen=True)
class Likelihood:
    """Of one continuation.

    Attributes:
        log_p: Sum of the log-probabilities of its tokens, nats.
        tokens: How many.
        text_bytes: Of the continuation.
        greedy: Whether each of its tokens was the likeliest.
    """

    log_p: float
    tokens: int
    text_bytes: int
    greedy: bool


def likelihoods(
    model: Answer,
    tokenizer: TextTokenizer,
    asked: Sequence[tuple[str, str]],
    *,
    longest: int,
    at_once: int = 16,
) -> list[Likelihood]:
    r"""Log-probability of each continuation given its context, token by token.

    .. math:: \log p(y \mid x) = \sum_t \log p(y_t \mid x, y_{<t})

    Context and continuation are cut into tokens together, and those tokens count that begin at or
    after the context's end in bytes, or reach over it: so that no token is one the model would
    never see. A context that is too long loses its beginning, never the continuation. A text
    begins with the token that begins a document, where the tokenizer has one; one without context
    else with the token that ends one, as the second document of a row does.

    Args:
        model: Answers batches with logits ``(N, T, V)``.
        tokenizer: Its own.
        asked: Pairs (context, continuation); neither may be empty of tokens, but where the
            tokenizer has a token that begins or ends a text the context may.
        longest: Tokens that the model reads at most; the last one of a continuation is not read.
        at_once: Continuations in one batch.

    Raises:
        DataError: A continuation has no tokens, or is longer than the model reads.
    """
    sizes = [len(more.encode()) for _, more in asked]
    rows = [_row(tokenizer, *pair, longest) for pair in asked]
    return _told(model, tokenizer, rows, sizes, at_once)


def rolling(
    model: Answer,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    longest: int,
    at_once: int = 16,
) -> list[Likelihood]:
    """Log-probability of whole texts, of any length: each token is predicted once.

    A text that is longer than the model reads is cut into windows of ``longest`` predictions, the
    last of them with as much context as there is room for (as the LM Evaluation Harness does).

    Args:
        model: As in `likelihoods`.
        tokenizer: Its own, with a token that begins or ends a document: this stands before a text.
        texts: None is empty.
        longest: Tokens that the model reads at most.
        at_once: Windows in one batch.

    Raises:
        DataError: A text has no tokens, or nothing can stand before it.
    """
    rows, parts = [], []
    for text in texts:
        tokens = (*_before(tokenizer, text), *tokenizer.encode(text).tokens)
        if len(tokens) < 2:
            raise DataError(f"the text {text!r:.60} has no tokens.")
        windows = [_window(tokens, start, longest) for start in range(1, len(tokens), longest)]
        rows += windows
        parts.append(len(windows))
    found = iter(_told(model, tokenizer, rows, [0] * len(rows), at_once))
    told = []
    for text, count in zip(texts, parts, strict=True):
        some = [next(found) for _ in range(count)]
        log_p, tokens_ = math.fsum(each.log_p for each in some), sum(each.tokens for each in some)
        greedy = all(each.greedy for each in some)
        told.append(Likelihood(log_p, tokens_, len(text.encode()), greedy))
    return told


def _window(tokens: tuple[int, ...], start: int, longest: int) -> _Row:
    """Predictions from ``start`` on, ``longest`` at most, behind all context there is room for."""
    stop = min(start + longest, len(tokens))
    begin = max(0, stop - longest - 1)
    return tokens[begin:stop], start - begin


def _told(
    model: Answer,
    tokenizer: TextTokenizer,
    rows: Sequence[_Row],
    sizes: Sequence[int],
    at_once: int,
) -> list[Likelihood]:
    """Of each row, what the model holds of the tokens from its border on."""
    found: list[Likelihood] = [Likelihood(0.0, 0, 0, False)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    with evaluating(model), torch.no_grad():
        for some in _pieces(order, rows, tokenizer.size, at_once):
            log_p, likeliest = _read(model, tokenizer, [rows[i][0][:-1] for i in some])
            for place, i in enumerate(some):
                tokens, first = rows[i]
                targets = torch.tensor(tokens[first:], dtype=torch.long)
                where = slice(first - 1, len(tokens) - 1)  # position t holds what follows it
                said = log_p[place, where].gather(1, targets[:, None])[:, 0]
                found[i] = Likelihood(
                    float(said.double().sum()),
                    len(targets),
                    sizes[i],
                    bool((likeliest[place, where] == targets).all()),
                )
    return found


def _pieces(
    order: Sequence[int], rows: Sequence[_Row], vocabulary: int, most: int
) -> Iterator[Sequence[int]]:
    """Numbers of rows that are read together: fewer where their logits are large."""
    start = 0
    while start < len(order):
        length = len(rows[order[min(start + most, len(order)) - 1]][0])
        height = max(1, min(most, _LOGITS // (length * vocabulary)))
        yield order[start : start + height]
        start += height


def _row(tokenizer: TextTokenizer, context: str, more: str, longest: int) -> _Row:
    whole, border = tokenizer.encode(context + more), len(context.encode())
    first = next((i for i, (_, stop) in enumerate(whole.spans) if stop > border), len(whole))
    counted = len(whole) - first
    if not more or counted == 0:
        raise DataError(f"the continuation {more!r:.60} has no tokens: give text that follows.")
    begin = _before(tokenizer, more) if first == 0 else _begin(tokenizer)
    if counted > longest:
        raise DataError(
            f"the continuation {more!r:.60} has {counted} tokens, and the model reads {longest}."
        )
    tokens = (*begin, *whole.tokens)
    first += len(begin)
    spare = max(0, len(tokens) - longest - 1)
    return tokens[spare:], first - spare


def _begin(tokenizer: TextTokenizer) -> tuple[int, ...]:
    return () if tokenizer.begin is None else (tokenizer.begin,)


def _before(tokenizer: TextTokenizer, text: str) -> tuple[int, ...]:
    """What stands before a text without context."""
    found = tokenizer.end if tokenizer.begin is None else tokenizer.begin
    if found is None:
        raise DataError(
            f"the continuation {text!r:.60} has nothing before it, and {tokenizer.name} has no "
            "token that begins or ends a text: give a context."
        )
    return (found,)


def _read(
    model: Answer, tokenizer: TextTokenizer, rows: Sequence[tuple[int, ...]]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``(N, T, V)`` of the next token, and the likeliest ``(N, T)``."""
    length = max(map(len, rows))
    tokens = torch.full((len(rows), length), tokenizer.padding)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    batch = Batch({"input_ids": tokens, "attention_mask": mask}).to(_device(model))
    logits = dense(model(batch), "an evaluation").float().cpu()
    return logits.log_softmax(-1), logits.argmax(-1)
