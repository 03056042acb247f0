"""How much of a batch takes part where two tokenizers cut it, and how much probability."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs, dense
from tutelage.objectives.crossed.groups import (
    STUDENT_GROUP,
    TEACHER_GROUP,
    TEACHER_MASK,
    entries,
    groups_of,
    numbered,
)
from tutelage.objectives.crossed.overlap import buckets_of


@dataclass(frozen=True)
class Coverage:
    """Shares of tokens that count, of one batch.

    Attributes:
        tokens: How many tokens the student predicts that count.
        groups: How many groups count.
        student: Share of those tokens that lie in such a group: what `LikelihoodMatching` reads.
        teacher: Share of the teacher's tokens, likewise.
        first: Share of the student's positions at which a group begins: where `VocabularyOverlap`
            and `UniversalLogit` compare.
        one_to_one: Share of them whose group is one token on both sides.
    """

    tokens: int
    groups: int
    student: float
    teacher: float
    first: float
    one_to_one: float


def coverage(batch: Batch) -> Coverage:
    """What share of a batch's tokens takes part; no model is asked.

    Args:
        batch: Of `tutelage.data.text.aligned`.

    Raises:
        DataError: It has no groups.

    Example:
        >>> names = {"student.group": torch.tensor([[0, 0, -1, 1]])}
        >>> names["teacher.group"] = torch.tensor([[0, 1]])
        >>> found = coverage(Batch(names))
        >>> found.groups, found.student, found.first, found.one_to_one
        (2, 0.75, 0.5, 0.25)
    """
    inputs = entries(batch)
    if STUDENT_GROUP not in inputs or TEACHER_GROUP not in inputs:
        raise DataError(
            "coverage needs the groups of two tokenizers, and this batch has none: make it by "
            "tutelage.data.text.aligned."
        )
    ours, theirs = inputs[STUDENT_GROUP], inputs[TEACHER_GROUP]
    mask = torch.ones_like(ours, dtype=torch.bool) if batch.mask is None else batch.mask
    their_mask = inputs.get(TEACHER_MASK, torch.ones_like(theirs, dtype=torch.bool))
    groups = numbered(ours, theirs, mask, ours.shape)
    tokens, their_tokens = max(int(mask.sum()), 1), max(int(their_mask.sum()), 1)
    return Coverage(
        tokens=int(mask.sum()),
        groups=groups.count,
        student=int((groups.student >= 0).sum()) / tokens,
        teacher=int((groups.teacher >= 0).sum()) / their_tokens,
        first=groups.count / tokens,
        one_to_one=int(groups.one_to_one().sum()) / tokens,
    )


@torch.no_grad()
def overlap_mass(
    student: Outputs, teacher: Outputs, batch: Batch, tokens: Tensor
) -> tuple[float, float]:
    r"""Mean probability that lies in the overlap of two vocabularies, where groups begin.

    .. math:: \frac{1}{G} \sum_g \sum_{m \in M} q_{g, m}, \quad
        \frac{1}{G} \sum_g \sum_{c \to M} p_{g, c}

    Args:
        student: Its answer to the batch.
        teacher: Likewise, with logits of all classes.
        batch: Of `tutelage.data.text.aligned`.
        tokens: The map of `VocabularyOverlap`.

    Returns:
        The student's and the teacher's, from 0 to 1; 0 where no group counts.

    Raises:
        SparseAnswer: The teacher keeps its top tokens only.
    """
    answers = dense(teacher, "overlap_mass")
    groups = groups_of(student.logits, teacher, batch, "overlap_mass")
    ours, theirs = groups.firsts()
    buckets = buckets_of(tokens.to(student.logits.device))
    q = student.logits.flatten(0, -2)[ours].float().softmax(-1)[:, buckets.ours]
    p = answers.flatten(0, -2)[theirs].float()[:, : len(tokens)].softmax(-1)
    p = p[:, buckets.theirs < len(buckets.ours)]
    count = max(groups.count, 1)
    return float(q.sum()) / count, float(p.sum()) / count
