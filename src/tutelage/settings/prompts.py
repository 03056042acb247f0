"""(No situation) The prompts of a batch of text: what stands before the answer of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch


@dataclass(frozen=True)
class Prompts:
    """Prompts, filled up on the left, so that all end in the last column.

    Attributes:
        tokens: ``(M, P)`` of int64.
        attention_mask: ``(M, P)`` of int64: 1 where a token is, 0 where it was filled up.
        rows: Which rows of the batch they were taken from, ``(M,)``; a row without an answer has
            no prompt.
    """

    tokens: Tensor
    attention_mask: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, chosen: Tensor) -> "Prompts":
        """Some of them."""
        return Prompts(self.tokens[chosen], self.attention_mask[chosen], self.rows[chosen])


def prompts_of(batch: Batch, asker: str) -> Prompts:
    """What stands before the first token that counts, row by row.

    A language batch predicts at each position the token that follows. Where position t is the
    first whose prediction counts, the answer begins with the token after it, so the prompt is
    the tokens from the first one to position t, with that one. A batch without targets and mask
    is all prompt.

    Args:
        batch: Inputs ``input_ids`` ``(N, T)`` and, where rows are padded, ``attention_mask``;
            targets or a mask ``(N, T)``.
        asker: In whose name a batch is refused.

    Raises:
        DataError: This is no batch of text, or there are several documents in a row.
        ShapeMismatch: The mask is not one of tokens.

    Example:
        >>> text = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
        >>> counted = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]]).bool()
        >>> prompts_of(Batch({"input_ids": text}, mask=counted), "on_policy").tokens
        tensor([[1, 2, 3],
                [0, 5, 6]])
    """
    text = text_of(batch, asker)
    there = attended(batch, asker)
    refuse_packed(batch, there, asker)
    counted = _counted(batch, text, asker)
    rows = torch.arange(len(text), device=text.device)
    if counted is not None:
        rows = rows[counted.any(1)]
        places = torch.arange(text.shape[1], device=text.device)
        there = there & (places <= counted.int().argmax(1, keepdim=True))
    text, there = text[rows], there[rows]
    # A stable sort of "is it a token of the prompt": all others go to the left.
    order = there.int().argsort(dim=1, stable=True)
    longest = int(there.sum(1).max()) if len(rows) else 0
    last = order[:, order.shape[1] - longest :]
    there = there.gather(1, last)
    return Prompts(text.gather(1, last).masked_fill(~there, 0), there.long(), rows)


def stacked(prompts: Sequence[Prompts]) -> tuple[Tensor, Tensor]:
    """Tokens and attention masks of several, one below the other, ``(M, P)`` each."""
    longest = max(each.tokens.shape[1] for each in prompts)

    def one(of: list[Tensor]) -> Tensor:
        return torch.cat([F.pad(t, (longest - t.shape[1], 0)) for t in of])

    return one([p.tokens for p in prompts]), one([p.attention_mask for p in prompts])


def named(batch: Batch) -> Mapping[str, Tensor]:
    """The inputs of a batch by name; none, where they have no names."""
    return {} if isinstance(batch.inputs, Tensor) else batch.inputs


def text_of(batch: Batch, asker: str) -> Tensor:
    """The tokens ``(N, T)`` of a batch of text.

    Raises:
        DataError: There are none.
    """
    found = named(batch).get("input_ids")
    if found is None or found.ndim != 2 or found.is_floating_point():
        raise DataError(
            f"{asker} reads text: inputs by name, among them input_ids of whole numbers (N, T); "
            f"got {_described(batch)}: use a loader of tutelage.data.text."
        )
    return found


def attended(batch: Batch, asker: str) -> Tensor:
    """Where there are tokens, ``(N, T)`` of bool: everywhere, unless the batch says otherwise."""
    text = text_of(batch, asker)
    mask = named(batch).get("attention_mask")
    if mask is None:
        return torch.ones_like(text, dtype=torch.bool)
    if mask.shape != text.shape:
        raise ShapeMismatch(
            f"{asker} got an attention mask of shape {tuple(mask.shape)} for tokens "
            f"{tuple(text.shape)}: it must have one entry a token."
        )
    return mask.bool()


def refuse_packed(batch: Batch, there: Tensor, asker: str) -> None:
    """Refuse rows of several documents: such a row has no one prompt."""
    positions = named(batch).get("position_ids")
    if positions is not None and bool((((positions == 0) & there).sum(1) > 1).any()):
        raise DataError(
            f"{asker} needs one document a row, and in this batch positions begin anew within a "
            "row: turn packing off."
        )


def _counted(batch: Batch, text: Tensor, asker: str) -> Tensor | None:
    """Positions whose prediction counts, ``(N, T)``; None where the batch names none."""
    counted = batch.mask
    if counted is None:
        if batch.targets is None:
            return None
        counted = batch.targets >= 0
    if counted.shape != text.shape:
        raise ShapeMismatch(
            f"{asker} finds prompts by the positions that count, and got tokens "
            f"{tuple(text.shape)} with positions of shape {tuple(counted.shape)}: mask and targets "
            "must have one entry a token."
        )
    return counted


def _described(batch: Batch) -> str:
    if isinstance(batch.inputs, Tensor):
        return f"one tensor {tuple(batch.inputs.shape)} without a name"
    return ", ".join(f"{name} {tuple(t.shape)}" for name, t in batch.inputs.items()) or "nothing"
