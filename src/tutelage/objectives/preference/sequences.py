"""What whole answers have in common: their log-probabilities, and which belong to one question."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch
from tutelage.objectives.units import class_numbers, example_numbers, raised


def sequence_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    r"""The log-probability of whole answers.

    .. math:: \log \pi(y | x) = \sum_t \log \pi(y_t | x, y_{<t})

    Args:
        logits: ``(N, T, V)``: at each position, of the token that follows.
        targets: The token that follows, ``(N, T)``; negative where none counts.

    Returns:
        ``(N,)``, in nats, at most 0; 0 where nothing counts.

    Raises:
        DataError: A token is none of the V.
        ShapeMismatch: Targets are not one for each position.

    Example:
        >>> sequence_log_probs(torch.zeros(1, 3, 2), torch.tensor([[-1, 0, 1]]))
        tensor([-1.3863])
    """
    targets = class_numbers(targets, logits, "sequence_log_probs")
    counted = targets >= 0
    chosen = targets.clamp(min=0).unsqueeze(-1)
    each = F.log_softmax(raised(logits), dim=-1).gather(-1, chosen).squeeze(-1)
    # where, not a product: 0 * -inf would be NaN.
    return torch.where(counted, each, each.new_zeros(())).flatten(1).sum(1)


@dataclass(frozen=True)
class Answers:
    """The M answers of a batch that count.

    Attributes:
        targets: Their tokens, ``(M, T)``, negative outside of the answer.
        lengths: Tokens of each, ``(M,)``, at least 1.
        ids: The question that each answers, ``(M,)``.
        variant: Which answer it is, ``(M,)``; 0 is the best.
        rows: The batch's rows that these are, ``(N,)`` of bool.
    """

    targets: Tensor
    lengths: Tensor
    ids: Tensor
    variant: Tensor
    rows: Tensor

    def of(self, logits: Tensor, asker: str, *, per_token: bool = False) -> Tensor:
        """Their log-probabilities ``(M,)`` under ``logits`` ``(N, T, V)`` of the whole batch.

        Args:
            logits: Of one model.
            asker: In whose name another shape is refused.
            per_token: Divide by the length of each: the mean over its tokens.
        """
        logits = _tokens(logits)
        if logits.shape[:2] != (len(self.rows), self.targets.shape[1]):
            raise ShapeMismatch(
                f"{asker} needs logits at every position of {len(self.rows)} answers of "
                f"{self.targets.shape[1]}, and got {tuple(logits.shape)}: let both models read "
                "the same tokens."
            )
        whole = sequence_log_probs(logits[self.rows], self.targets)
        return whole / self.lengths if per_token else whole

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Chosen and rejected, ``(P,)`` each: numbers among the M of the same question.

        Variant 0 is the chosen one, every other variant a rejected one.
        """
        same = self.ids[:, None] == self.ids
        better = (self.variant == 0)[:, None] & (self.variant > 0)
        chosen, rejected = (same & better).nonzero().unbind(1)
        return chosen, rejected


def answers_of(batch: Batch, logits: Tensor, asker: str) -> Answers:
    """The answers in a batch, one a row; what no token of counts is left out.

    Args:
        batch: Targets ``(N, T)``, a mask of the same shape or ``(N,)``, ids, variants.
        logits: The student's, ``(N, T, V)``; ``(N, V)`` with targets ``(N,)`` is one token each.
        asker: In whose name a batch is refused.

    Raises:
        DataError: There are no targets, no ids or no variants.
        ShapeMismatch: Targets or mask are not of the logits' shape.
    """
    ids, variant = example_numbers(batch, asker), variants_of(batch, asker)
    targets = class_numbers(batch.targets, logits, asker)
    if batch.mask is not None:
        if batch.mask.shape not in (targets.shape, targets.shape[:1]):
            raise ShapeMismatch(
                f"{asker} has answers of {tuple(targets.shape)} tokens, and the batch's mask has "
                f"shape {tuple(batch.mask.shape)}: a mask must have one entry a token or a row."
            )
        kept = batch.mask.view(*batch.mask.shape, *[1] * (targets.ndim - batch.mask.ndim))
        targets = targets.masked_fill(~kept, -1)
    targets = targets.reshape(len(targets), -1)
    lengths = (targets >= 0).sum(1)
    rows = lengths > 0
    return Answers(targets[rows], lengths[rows], ids[rows], variant[rows], rows)


def variants_of(batch: Batch, asker: str) -> Tensor:
    """Which answer to its question each row is, ``(N,)``; 0 is the best.

    Raises:
        DataError: The batch does not say.
    """
    if batch.variant is None:
        raise DataError(
            f"{asker} compares several answers to one question, and this batch does not say which "
            "is which: give Batch(..., ids=..., variant=...), where rows of one question have one "
            "id, and variant 0 is the best answer."
        )
    return batch.variant


def mean_of(values: Tensor) -> Tensor:
    """The mean of ``values`` ``(P,)``; 0 with zero gradient where there are none."""
    return values.sum() / max(len(values), 1)


def _tokens(logits: Tensor) -> Tensor:
    """Logits ``(N, V)`` as those of answers of one token."""
    return logits.unsqueeze(1) if logits.ndim == 2 else logits
