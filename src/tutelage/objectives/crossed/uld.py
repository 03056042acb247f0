r"""Probabilities compared by rank, so that nobody needs to know what the tokens are.

Boizard, El Haddad, Hudelot, Colombo: Towards Cross-Tokenizer Distillation: the Universal Logit
Distillation Loss for LLMs, 2024, arXiv:2402.12030.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.crossed.groups import groups_by_position, groups_of
from tutelage.objectives.units import enough_classes, number, raised, whole


def universal_logit(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, top: int | None = None
) -> Tensor:
    r"""Distance of two distributions over different vocabularies, by rank.

    .. math:: \sum_i \big| p_{(i)} - q_{(i)} \big|, \quad p_{(1)} \ge p_{(2)} \ge \dots

    The Wasserstein distance of the two where moving probability costs the same from any token to
    any other, and tokens are free to be paired. The smaller vocabulary is filled up with
    probabilities of zero; logits of zero would be given some.

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: Logits of the same units, ``(N, ..., C')``.
        temperature: T > 0, of both softmaxes.
        top: How many of the largest of each side are compared; the masses of the rest are one more
            entry. That is never more than the whole sum. All if None.

    Returns:
        ``(N, ...)``, from 0 to 2; 0 where both have the same probabilities, in whatever order.

    Raises:
        ShapeMismatch: They are not of the same units, or there are fewer than two classes.

    Example:
        >>> one, other = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.3, 0.7]).log()
        >>> universal_logit(one, other).item()  # |0.7 - 0.7| + |0.2 - 0.3| + |0.1 - 0|
        0.2000...
    """
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ShapeMismatch(
            f"uld compares the same units, and got logits {tuple(student.shape)} of the student "
            f"and {tuple(teacher.shape)} of the teacher: choose the positions first."
        )
    enough_classes(student, "uld")
    ours = _ranked((raised(student) / temperature).softmax(-1), top)
    theirs = _ranked((raised(teacher) / temperature).softmax(-1), top)
    return _by_rank(ours, theirs)


@register("objective", "uld")
class UniversalLogit(AbstractUnitLoss):
    r"""ULD: the student is as sure of its likeliest token as the teacher of its own, and so on.

    .. math:: \frac{1}{n} \sum_{(t, t')} \sum_i \big| p_{t', (i)} - q_{t, (i)} \big|
        \quad (universal\_logit)

    Which positions meet (``by``):

    - ``group``: those that predict the first token of a group (`tutelage.data.text.aligned`), where
      both have read the same text. The further tokens of a group are left out: there the two have
      read different parts of a word.
    - ``position``: the first that counts with the first that counts, the second with the second, as
      in the paper; what one has more of is left out. From the first token on that the two cut
      otherwise, these are predictions of different text.

    Where there is but one tokenizer, every position meets itself.

    Neighbours: `LikelihoodMatching` and `VocabularyOverlap` know which token is which, and tell a
    student that is sure of the wrong token; this one does not, so it needs cross entropy beside it.

    Suggested weight: 1.5 beside 1 of cross entropy (the authors, answers to questions).

    Scale: sum over ranks; divided by the tokens that the student predicts, so that parts of a batch
    add up. The authors take a mean over positions, which is the same where all of them meet.

    Sparse answers (top k with tail) are used with ``top`` of at most k, at temperature 1.

    Args:
        by: ``group`` or ``position``.
        temperature: T > 0.
        top: How many of the largest probabilities of each are compared, the rest as one; all if
            None. Sorting whole vocabularies is what this objective costs.
    """

    name = "uld"
    divergence = True

    def __init__(
        self,
        by: Literal["group", "position"] = "group",
        temperature: float = 1.0,
        top: int | None = None,
    ):
        super().__init__()
        if by not in ("group", "position"):
            raise RecipeError(f"uld: by must be 'group' or 'position', got {by!r}.")
        self.pairing = groups_of if by == "group" else groups_by_position
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.top = None if top is None else whole(top, "top", self.name)

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a pair of positions, at the student's."""
        enough_classes(student.logits, self.name)
        groups = self.pairing(student.logits, teacher, batch, self.name)
        ours, theirs = groups.firsts()
        rows = student.logits.flatten(0, -2)[ours]
        if not isinstance(teacher, SparseOutputs):
            told = teacher.logits.flatten(0, -2)[theirs]
            return groups.spread(universal_logit(rows, told, self.temperature, self.top))
        self._check_sparse(teacher)
        kept = teacher.logits.flatten(0, -2)[theirs].exp().sort(-1, descending=True).values
        tail = teacher.log_tail.flatten()[theirs].exp() + kept[:, self.top :].sum(-1)
        ranked = kept[:, : self.top], tail
        return groups.spread(_by_rank(_ranked(rows.softmax(-1), self.top), ranked))

    def _check_sparse(self, teacher: SparseOutputs) -> None:
        kept = teacher.top.shape[-1]
        if self.top is None or self.top > kept or self.temperature != 1:
            raise SparseAnswer(
                f"uld needs all probabilities, and this teacher's answers keep only {kept}: set "
                f"top: {kept} and temperature: 1, or keep dense answers."
            )


def _ranked(probabilities: Tensor, top: int | None) -> tuple[Tensor, Tensor]:
    """The largest in order ``(..., k)``, and the sum of the others ``(...)``."""
    if top is None or top >= probabilities.shape[-1]:
        largest = probabilities.sort(-1, descending=True).values
        return largest, torch.zeros_like(largest[..., 0])
    largest = probabilities.topk(top, -1).values
    return largest, (1 - largest.sum(-1)).clamp(min=0)


def _by_rank(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> Tensor:
    (largest, rest), (their_largest, their_rest) = ours, theirs
    more = their_largest.shape[-1] - largest.shape[-1]
    largest, their_largest = (
        F.pad(largest, (0, max(more, 0))),
        F.pad(their_largest, (0, max(-more, 0))),
    )
    return (largest - their_largest).abs().sum(-1) + (rest - their_rest).abs()
