"""(No situation) A student writes, and what it wrote becomes a batch like any other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.data.text.shift import next_tokens
from tutelage.models.generation import Draw, generate
from tutelage.models.observed import Observed
from tutelage.objectives.units import raised
from tutelage.settings.prompts import Prompts, attended, named, stacked, text_of

NOTES = "written."
"""What inputs are called that no model reads: notes that travel with each row."""
LOG_PROBS = NOTES + "log_probs"
WRITER = "a student that writes"


@dataclass(frozen=True)
class Pen:
    """How a student writes.

    Attributes:
        most: Tokens of an answer at most.
        temperature: Of the draw; 0 takes the likeliest token. It is not that of the loss.
        top_p: Share of the likeliest tokens that are drawn from.
        top_k: So many of the likeliest tokens are drawn from; None is all.
        end: Number of the token that ends an answer; None where each goes on to ``most``.
    """

    most: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    end: int | None = None

    def write(
        self, model: Observed, prompts: Sequence[Prompts], numbers: Tensor, seed: int
    ) -> list[Batch]:
        """One batch for each of ``prompts``, all written in one go.

        Args:
            model: Who writes: in eval mode and without a graph.
            prompts: For each batch; some may be of no rows, but not all.
            numbers: Of all rows one after another, ``(M,)``, each its own: with ``seed`` they
                say what is drawn.
            seed: Of the draw.

        Returns:
            Rows of prompt and answer, from the first column on: ``input_ids``, and
            ``attention_mask`` where rows are filled up on the right; targets are the tokens that
            follow, and the mask keeps those that were written. Their log-probabilities at
            temperature 1 are the note `LOG_PROBS`. Ids are not set.
        """
        tokens, there = stacked(prompts)
        said = generate(model, tokens, there, Draw(**asdict(self)), seed=seed, ids=numbers)
        width = tokens.shape[1]
        written = said.written.bool()
        drawn = F.pad(said.log_probs.float(), (width, 0)).masked_fill(~written, 0.0)
        there = torch.cat([there, written[:, width:].long()], dim=1)
        given = {"input_ids": said.tokens, "attention_mask": there, LOG_PROBS: drawn}
        # Rows begin in the first column: no position depends on how long other prompts are.
        rows = flush(Batch(given, mask=written), WRITER)
        found = dict(named(rows))
        inputs, targets, mask = next_tokens(found.pop("input_ids"), rows.mask)
        others = {k: t[:, 1:] if k == LOG_PROBS else t[:, :-1] for k, t in found.items()}
        batch = Batch({"input_ids": inputs, **others}, targets.masked_fill(~mask, -1), mask)
        edges = [0, *accumulate(len(each) for each in prompts)]
        return [flush(batch[start:stop], WRITER) for start, stop in pairwise(edges)]


def words(batch: Batch) -> tuple[Tensor, Tensor]:
    """The tokens that were written, ``(N, T)``, and where, ``(N, T)`` of bool."""
    assert batch.targets is not None
    return batch.targets, batch.targets >= 0 if batch.mask is None else batch.mask


def ended(batch: Batch, pen: Pen) -> Tensor:
    """Which answers came to an end, and were not cut off, ``(N,)`` of bool."""
    tokens, mask = words(batch)
    return (mask & (tokens == (-2 if pen.end is None else pen.end))).any(1)


def log_probs_of(logits: Tensor, batch: Batch) -> Tensor:
    """Log-probabilities ``(N, T)`` of the tokens that were written, in fp32 at least.

    What stands where nothing was written means nothing.
    """
    chosen = words(batch)[0].clamp(min=0).unsqueeze(-1)
    return F.log_softmax(raised(logits), dim=-1).gather(-1, chosen).squeeze(-1)


def answers_in(batch: Batch) -> Iterator[tuple[list[int], list[int]]]:
    """Prompt and answer of each row that was written, as plain numbers."""
    text, there = text_of(batch, "a reward"), attended(batch, "a reward")
    tokens, mask = words(batch)
    for row in range(len(text)):
        first = int(mask[row].int().argmax())
        prompt = text[row, : first + 1][there[row, : first + 1]]
        yield prompt.tolist(), tokens[row][mask[row]].tolist()


def apart(batch: Batch) -> tuple[Batch, Mapping[str, Tensor]]:
    """The batch as models read it, and the notes that travelled with it, by name."""
    notes = {name: t for name, t in named(batch).items() if name.startswith(NOTES)}
    read = {name: t for name, t in named(batch).items() if name not in notes}
    return replace(batch, inputs=read), {k.removeprefix(NOTES): t for k, t in notes.items()}


def noted(batch: Batch, **notes: Tensor) -> Batch:
    """The batch with further notes, each of one entry a row, or one a token."""
    return replace(batch, inputs={**named(batch), **{NOTES + k: v for k, v in notes.items()}})


def flush(batch: Batch, asker: str) -> Batch:
    """The same rows, each from the first column on, without columns that no row needs.

    Positions then count columns, so ``position_ids`` are left out; what is filled up on the right
    has token 0, target -1, and does not count.
    """
    there = attended(batch, asker)
    order = (~there).int().argsort(dim=1, stable=True)
    order = order[:, : max(int(there.sum(1).max()), 1)] if len(batch) else order
    real = there.gather(1, order)
    kept = ("input_ids", *(name for name in named(batch) if name.startswith(NOTES)))
    inputs = {
        name: t.gather(1, order).masked_fill(~real, 0) if t.shape == there.shape else t
        for name, t in named(batch).items()
        if name in kept
    }
    if not bool(real.all()):
        inputs["attention_mask"] = real.long()
    targets = None if batch.targets is None else batch.targets.gather(1, order)
    mask = None if batch.mask is None else batch.mask.gather(1, order) & real
    targets = None if targets is None else targets.masked_fill(~real, -1)
    return replace(batch, inputs=inputs, targets=targets, mask=mask)


def joined(parts: Sequence[Batch], order: Tensor) -> Batch:
    """Batches of text one below the other, filled up on the right.

    Args:
        parts: With targets, mask, ids and variants each, and the same notes.
        order: For each row of the whole, which row of the parts it is, ``(N,)``.
    """
    width = max(text_of(part, "on_policy").shape[1] for part in parts)

    def column(of: Iterable[Tensor | None], value: int) -> Tensor:
        given = [t for t in of if t is not None]
        if given[0].ndim == 1:
            return torch.cat(given)[order]
        return torch.cat([F.pad(t, (0, width - t.shape[1]), value=value) for t in given])[order]

    inputs = {
        "input_ids": column((text_of(part, "on_policy") for part in parts), 0),
        "attention_mask": column((attended(part, "on_policy").long() for part in parts), 0),
    }
    for name in apart(parts[0])[1]:
        inputs[NOTES + name] = column((apart(part)[1][name] for part in parts), 0)
    mask = column((p.mask.int() for p in parts if p.mask is not None), 0).bool()
    return Batch(
        inputs,
        column((part.targets for part in parts), -1),
        mask,
        column((part.ids for part in parts), 0),
        variant=column((part.variant for part in parts), 0),
    )
