"""Language models write: token by token, each row by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.seeds import derive, uniform
from tutelage.models.documents import positions_of
from tutelage.models.drawing import Draw, drawn
from tutelage.models.headless import with_head
from tutelage.models.observed import Frozen, Observed
from tutelage.models.writing_on import next_logits

__all__ = ["Draw", "Generated", "generate"]


@dataclass(frozen=True)
class Generated:
    """What was written behind prompts of P tokens, padding counted.

    Attributes:
        tokens: Prompts and what follows, ``(N, P + most)`` of int64; behind the end of a row, the
            end again.
        written: Which of them the model wrote, up to and including the end, ``(N, P + most)``.
        log_probs: Of each token drawn, at temperature 1 among all tokens, ``(N, most)`` of fp32; 0
            behind the end.
    """

    tokens: Tensor
    written: Tensor
    log_probs: Tensor


@torch.no_grad()
def generate(
    model: Observed | Frozen,
    prompt: Tensor,
    attention_mask: Tensor,
    draw: Draw,
    *,
    seed: int,
    ids: Tensor | None = None,
) -> Generated:
    """Let a language model write on, in eval mode and without a graph.

    A row's draws depend on (seed, its id, how many tokens it has written) alone, and not on the
    rows around it, nor on how far its prompt is padded. Models of the transformers library and
    the zoo's ``gpt`` keep what they have read; any other causal model reads it anew each time.

    Args:
        model: Whose logits ``(N, T, V)`` at a token are of the next one. Its mode is put back.
        prompt: Token numbers ``(N, P)``, padded on the left.
        attention_mask: ``(N, P)``, 0 where there is padding.
        draw: How many tokens, and how they are drawn.
        seed: Of the draws.
        ids: Stable numbers of the rows ``(N,)``; 0, 1, 2, ... if None.

    Returns:
        Prompts with what was written.

    Raises:
        ModelError: A row has no token, is padded on the right, or there will be more tokens than
            the model has positions; the model is no language model.

    Example:
        >>> from tutelage.models import build_model
        >>> net = Observed(build_model({"gpt": {"layers": 1, "width": 16}}, classes=9, shape=(4,)))
        >>> prompt = torch.tensor([[0, 5], [3, 4]])
        >>> found = generate(net, prompt, torch.tensor([[0, 1], [1, 1]]), Draw(3), seed=0)
        >>> found.tokens.shape, found.log_probs.shape, found.written[0].tolist()
        (torch.Size([2, 5]), torch.Size([2, 3]), [False, False, True, True, True])
    """
    observed = model.observed if isinstance(model, Frozen) else model
    _check(observed, prompt, attention_mask, draw)
    observed = with_head(observed)
    rows, length = prompt.shape
    ids = torch.arange(rows, device=prompt.device) if ids is None else ids
    chances = _chances(seed, ids.to(prompt.device), draw.most)
    end = 0 if draw.end is None else draw.end
    tokens = torch.cat([prompt, prompt.new_full((rows, draw.most), end)], dim=1)
    mask = torch.cat([attention_mask, attention_mask.new_ones(rows, draw.most)], dim=1)
    written = torch.zeros_like(tokens, dtype=torch.bool)
    log_probs = torch.zeros(rows, draw.most, device=prompt.device)
    going = torch.ones(rows, dtype=torch.bool, device=prompt.device)
    with _evaluating(observed):
        following = next_logits(observed, tokens, mask, positions_of(mask), length)
        for step in range(draw.most):
            logits = next(following).float()
            found = drawn(logits, draw, chances[:, step])
            place = length + step
            tokens[:, place] = torch.where(going, found, end)
            written[:, place] = going
            likely = logits.log_softmax(-1).gather(-1, found[:, None]).squeeze(-1)
            log_probs[:, step] = torch.where(going, likely, 0.0)
            if draw.end is not None:
                going = going & (found != draw.end)
                if not bool(going.any()):
                    break
    return Generated(tokens, written, log_probs)


def _chances(seed: int, ids: Tensor, most: int) -> Tensor:
    """A number in [0, 1) for each row and step, ``(N, most)`` of float64 with 48 random bits."""
    coarse = uniform(derive(seed, "draw"), ids, most).double()
    fine = uniform(derive(seed, "draw", "fine"), ids, most).double()
    return coarse + fine / 2**24


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check(observed: Observed, prompt: Tensor, mask: Tensor, draw: Draw) -> None:
    if not isinstance(observed, Observed):
        raise ModelError(
            f"generate takes an Observed, got a {type(observed).__name__}: wrap the model first."
        )
    if prompt.ndim != 2 or prompt.shape != mask.shape or prompt.shape[1] == 0:
        raise ModelError(
            "generate takes prompts (N, P) and a mask of that shape, and got "
            f"{tuple(prompt.shape)} and {tuple(mask.shape)}."
        )
    real = mask != 0
    if not bool(real[:, -1].all()) or bool((real[:, :-1] & ~real[:, 1:]).any()):
        raise ModelError(
            "generate takes prompts padded on the left, each with at least one token: a row ends "
            "in padding, or has a hole."
        )
    longest = int(mask.sum(1).max()) + draw.most
    config = getattr(observed.model, "config", None)
    room = getattr(config, "max_position_embeddings", None)
    if isinstance(room, int) and longest > room:
        raise ModelError(
            f"prompts of up to {longest - draw.most} tokens and {draw.most} more are {longest}, "
            f"and {type(observed.model).__name__} has {room} positions: shorten either."
        )
