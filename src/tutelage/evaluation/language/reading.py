"""A text set answered once by all models, in pieces that fit into memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch
from tutelage.core.outputs import Outputs, dense
from tutelage.evaluation.language.table import Beside, TokenTable
from tutelage.evaluation.predict import _PRECISIONS, _device, evaluating

_LOGITS = 1 << 24  # numbers of one model's logits that are held at once: 64 MiB

Answer = Callable[[Batch], Outputs]


class Texts(Protocol):
    """Rows of tokens that each predict the next: the token sets of `tutelage.data.text`."""

    @property
    def vocabulary(self) -> int:
        """How many token numbers there are."""
        ...

    @property
    def example_shape(self) -> tuple[int, ...]:
        """``(T,)``: the tokens of a row that are read."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> Batch:
        """These rows, with targets and mask ``(N, T)``."""
        ...


def reads_tokens(examples: object) -> TypeGuard[Texts]:
    """Whether a set is text without classes: each row has a target for each position.

    Example:
        >>> from tutelage.data import TensorSet
        >>> reads_tokens(TensorSet(torch.zeros(2, 3), torch.tensor([0, 1]), classes=("a", "b")))
        False
    """
    return getattr(examples, "vocabulary", None) is not None and not getattr(
        examples, "classes", ()
    )


def read_tokens(
    models: Mapping[str, Answer],
    examples: object,
    *,
    pairs: Mapping[str, tuple[str, str]] | None = None,
    precision: str = "fp32",
    most_rows: int = 64,
) -> tuple[dict[str, TokenTable], dict[str, Beside]]:
    """What each model says of each token that counts, and how pairs of models differ there.

    Position t of a row holds the model's distribution of the token that follows it; the set has
    shifted its targets already (`tutelage.data.text`). Where models have rows beyond the set's
    vocabulary, as heads are padded, these take part in their softmax.

    Args:
        models: By name; each answers a batch with logits ``(N, T, V)``.
        examples: Texts, with targets ``(N, T)``, negative where nothing counts.
        pairs: By name, (reference, other): their divergence is taken over the classes that both
            have, with -inf beyond.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``.
        most_rows: Rows answered at once; fewer where logits are large.

    Returns:
        A table for each model, and one for each pair.

    Raises:
        DataError: The set is no text, or none of its tokens counts.
        ShapeMismatch: A model's logits do not stand beside the targets.
    """
    if not reads_tokens(examples):
        raise DataError(
            "language models are measured on text, with a target for each token: this set is a "
            f"{type(examples).__name__}."
        )
    pairs = dict(pairs or {})
    said: dict[str, list[TokenTable]] = {name: [] for name in models}
    differ: dict[str, list[Beside]] = {name: [] for name in pairs}
    with ExitStack() as stack, torch.no_grad():
        for model in models.values():
            stack.enter_context(evaluating(model))
        for rows in _pieces(examples, most_rows):
            batch = examples.batch(rows)
            found = {name: _counted(name, each, batch, precision) for name, each in models.items()}
            where, targets = _units(batch)
            for name, log_p in found.items():
                said[name].append(_table(log_p, targets, rows[where[:, 0]], where[:, 1]))
            for name, (first, second) in pairs.items():
                differ[name].append(_beside(found[first], found[second]))
    tables = {name: _joined(parts) for name, parts in said.items()}
    if not len(next(iter(tables.values()))):
        raise DataError("no token of this set counts: is every target masked?")
    return tables, {
        name: Beside(torch.cat([p.kl for p in parts]), torch.cat([p.same for p in parts]))
        for name, parts in differ.items()
    }


def _pieces(examples: Texts, most: int) -> Iterator[Tensor]:
    height = max(1, min(most, _LOGITS // (examples.example_shape[0] * examples.vocabulary)))
    for start in range(0, len(examples), height):
        yield torch.arange(start, min(start + height, len(examples)))


def _units(batch: Batch) -> tuple[Tensor, Tensor]:
    """Where tokens count ``(M, 2)``, and which came there ``(M,)``."""
    assert batch.targets is not None
    counts = batch.targets >= 0 if batch.mask is None else batch.mask & (batch.targets >= 0)
    return counts.nonzero(), batch.targets[counts]


def _counted(name: str, model: Answer, batch: Batch, precision: str) -> Tensor:
    """Log-probabilities ``(M, V)`` in fp32 where tokens count."""
    device, lower = _device(model), _PRECISIONS[precision]
    assert batch.targets is not None
    with torch.autocast(device.type, lower, enabled=lower is not None):
        logits = dense(model(batch.to(device)), "an evaluation").cpu()
    if logits.ndim != 3 or logits.shape[:2] != batch.targets.shape:
        raise ShapeMismatch(
            f"the {name} answers with logits of shape {tuple(logits.shape)}, and the texts have "
            f"targets {tuple(batch.targets.shape)}: logits (N, T, V) are needed."
        )
    where, targets = _units(batch)
    if len(targets) and int(targets.max()) >= logits.shape[-1]:
        raise ShapeMismatch(
            f"the {name} knows {logits.shape[-1]} tokens, and the texts hold number "
            f"{int(targets.max())}: is it cut by the model's own tokenizer?"
        )
    return logits[where[:, 0], where[:, 1]].float().log_softmax(-1)


def _table(log_p: Tensor, targets: Tensor, rows: Tensor, places: Tensor) -> TokenTable:
    sure, likeliest = log_p.max(-1)
    entropy = -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1)
    nll = -log_p.gather(-1, targets[:, None])[:, 0].double()
    return TokenTable(nll, likeliest == targets, sure.exp(), entropy, targets, rows, places)


def _beside(first: Tensor, second: Tensor) -> Beside:
    shared = min(first.shape[-1], second.shape[-1])
    p, q = (each[:, :shared].log_softmax(-1) for each in (first, second))
    kl = (p.exp() * (p.clamp(min=-1e4) - q.clamp(min=-1e4))).sum(-1)
    return Beside(kl.double(), p.argmax(-1) == q.argmax(-1))


def _joined(parts: list[TokenTable]) -> TokenTable:
    return TokenTable(*(torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS))


_COLUMNS = ("nll", "right", "confidence", "entropy", "targets", "rows", "places")
