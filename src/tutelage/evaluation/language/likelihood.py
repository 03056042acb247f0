"""How likely a model holds given continuations of given texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.outputs import dense
from tutelage.core.text import TextTokenizer
from tutelage.evaluation.language.reading import Answer
from tutelage.evaluation.predict import _device, evaluating


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
    never see. A context that is too long loses its beginning, never the continuation.

    Args:
        model: Answers batches with logits ``(N, T, V)``.
        tokenizer: Its own.
        asked: Pairs (context, continuation); neither may be empty of tokens, but where the
            tokenizer has a token that begins a text the context may.
        longest: Tokens that the model reads at most.
        at_once: Continuations in one batch.

    Raises:
        DataError: A continuation has no tokens, or is longer than the model reads.
    """
    rows = [_row(tokenizer, *pair, longest) for pair in asked]
    found: list[Likelihood] = [Likelihood(0.0, 0, 0, False)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    with evaluating(model), torch.no_grad():
        for start in range(0, len(order), at_once):
            some = order[start : start + at_once]
            log_p, likeliest = _read(model, tokenizer, [rows[i][0] for i in some])
            for place, i in enumerate(some):
                tokens, first = rows[i]
                targets = torch.tensor(tokens[first:])
                where = slice(first - 1, len(tokens) - 1)  # position t holds what follows it
                said = log_p[place, where].gather(1, targets[:, None])[:, 0]
                found[i] = Likelihood(
                    float(said.double().sum()),
                    len(targets),
                    len(asked[i][1].encode()),
                    bool((likeliest[place, where] == targets).all()),
                )
    return found


def _row(
    tokenizer: TextTokenizer, context: str, more: str, longest: int
) -> tuple[tuple[int, ...], int]:
    """Tokens of both, and the number of the first that counts."""
    whole, border = tokenizer.encode(context + more), len(context.encode())
    begin = () if tokenizer.begin is None else (tokenizer.begin,)
    first = next((i for i, (_, stop) in enumerate(whole.spans) if stop > border), len(whole))
    counted = len(whole) - first
    if not more or counted == 0:
        raise DataError(f"the continuation {more!r:.60} has no tokens: give text that follows.")
    if first + len(begin) == 0:
        raise DataError(
            f"the continuation {more!r:.60} has nothing before it, and {tokenizer.name} has no "
            "token that begins a text: give a context."
        )
    if counted + 1 > longest:
        raise DataError(
            f"the continuation {more!r:.60} has {counted} tokens, and the model reads {longest}."
        )
    tokens = (*begin, *whole.tokens)
    first += len(begin)
    spare = max(0, len(tokens) - longest)
    return tokens[spare:], first - spare


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
