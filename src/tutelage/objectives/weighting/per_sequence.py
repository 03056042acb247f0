"""Texts that count alike, however long they are."""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.units import number
from tutelage.objectives.weighting.abstract import AbstractWeighting


@register("weighting", "per_sequence")
class PerSequence(AbstractWeighting):
    r"""Each sequence counts the same: a mean over sequences of means over their tokens.

    .. math:: w_{i, t} = \frac{\ell}{n_i}, \quad n_i = \text{counted tokens of sequence } i

    Without it each token counts the same, so that long answers weigh more. The denominator stays
    the number of counted tokens, so parts of an update add up, however unlike they are (a mean of
    the parts' own means over sequences would not). With l the mean length of an answer the
    term keeps its scale; two sequences of one update weigh alike whatever l is. A batch of shorter
    answers weighs more in proportion to its number of sequences for each token: fill batches by
    tokens, and each sequence weighs the same over the whole run.

    Args:
        length: l, the mean number of counted tokens of a sequence.
    """

    needs_teacher = False

    def __init__(self, length: float):
        self.length = number(length, "length", "per_sequence", above=0)

    def weights(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """``(N, T)``; 0 where nothing counts. Of examples of one unit, l for each."""
        units = student.logits.shape[:-1]
        mask = batch.mask
        if mask is not None and mask.shape != units:
            raise DataError(
                f"per_sequence weighs the tokens of sequences, and got logits "
                f"{tuple(student.logits.shape)} with a mask of {tuple(mask.shape)}: give (N, T, C) "
                "and (N, T)."
            )
        counted = student.logits.new_ones(units).float() if mask is None else mask.float()
        lengths = counted.flatten(1).sum(1) if len(units) > 1 else counted
        lengths = lengths.clamp(min=1).view(-1, *[1] * (len(units) - 1))
        return counted * (self.length / lengths)
