"""Which positions of the student meet which of the teacher, and sums over them.

A group holds the positions whose predicted tokens stand for the same bytes on both sides. Numbers
of groups come with the batch (`tutelage.data.text.aligned`), by the names below. A batch that has
none is of one tokenizer, and every unit is a group of its own.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch
from tutelage.core.outputs import Outputs

STUDENT_GROUP, TEACHER_GROUP = "student.group", "teacher.group"
TEACHER_TARGETS, TEACHER_MASK = "teacher.targets", "teacher.mask"


@dataclass(frozen=True)
class Groups:
    """The groups of a batch that count, numbered through all its rows from 0 on.

    Attributes:
        units: Shape of the student's units, ``(N, ...)``.
        student: The group of each of the student's positions, flattened; -1 for none.
        teacher: The group of each of the teacher's.
        count: G, how many groups there are.
    """

    units: torch.Size
    student: Tensor
    teacher: Tensor
    count: int

    def firsts(self) -> tuple[Tensor, Tensor]:
        """Flat positions ``(G,)`` that predict each group's first token: student's, teacher's.

        There both models have read the same text, whatever its tokens were.
        """
        return _first(self.student, self.count), _first(self.teacher, self.count)

    def lengths(self) -> tuple[Tensor, Tensor]:
        """Tokens in each group ``(G,)``: the student's, the teacher's."""
        return _lengths(self.student, self.count), _lengths(self.teacher, self.count)

    def one_to_one(self) -> Tensor:
        """Which groups are one token on both sides, ``(G,)`` of bool."""
        ours, theirs = self.lengths()
        return (ours == 1) & (theirs == 1)

    def only(self, kept: Tensor) -> "Groups":
        """Some of the groups, by ``(G,)`` of bool, numbered anew."""
        number = torch.where(kept, kept.cumsum(0) - 1, -1)
        student, teacher = (_renumbered(side, number) for side in (self.student, self.teacher))
        return replace(self, student=student, teacher=teacher, count=int(kept.sum()))

    def without(self, left_out: Tensor) -> "Groups":
        """All groups but some, by their numbers; negative ones among these say nothing."""
        return self.only(_lengths(left_out, self.count) == 0)

    def spread(self, values: Tensor) -> Tensor:
        """One value a group ``(G,)``, put at its first position of the student; 0 elsewhere.

        So a mean over units, whose denominator is the number of units that count, is the sum over
        groups for each token that the student predicts: parts of a batch add up to the whole.
        """
        places, _ = self.firsts()
        spread = values.new_zeros(self.units.numel()).index_put((places,), values)
        return spread.reshape(self.units)


def groups_of(student: Tensor, teacher: Outputs, batch: Batch, asker: str) -> Groups:
    """The groups of a batch that count: those that the mask keeps whole.

    Args:
        student: Logits ``(N, ..., C)``.
        teacher: The teacher's answer, for units of its own, ``(N, ..., C')``.
        batch: Its inputs may hold ``student.group`` and ``teacher.group``, numbers of groups in
            each row, negative for none.
        asker: In whose name what does not fit is refused.

    Raises:
        ShapeMismatch: Groups or mask do not belong to the units.
        DataError: One of the two entries is missing.
    """
    ours, theirs = student.shape[:-1], teacher.logits.shape[:-1]
    found = entries(batch)
    if STUDENT_GROUP not in found and TEACHER_GROUP not in found:
        return _units(student, theirs, batch, asker)
    pair = []
    for name, units in ((STUDENT_GROUP, ours), (TEACHER_GROUP, theirs)):
        if name not in found:
            raise DataError(
                f"{asker}: this batch names groups, but has no {name!r}: make it by "
                "tutelage.data.text.aligned, which gives both."
            )
        if found[name].shape != units:
            raise ShapeMismatch(
                f"{asker}: {name} has shape {tuple(found[name].shape)} for units of "
                f"{tuple(units)}: every position needs the number of its group, or -1."
            )
        pair.append(found[name])
    return numbered(pair[0], pair[1], counted(batch, student, asker), ours)


def groups_by_position(student: Tensor, teacher: Outputs, batch: Batch, asker: str) -> Groups:
    """The k-th counted position of a row with the teacher's k-th, up to the end of the shorter.

    Raises:
        ShapeMismatch: A mask does not belong to the units.
    """
    ours, theirs = student.shape[:-1], teacher.logits.shape[:-1]
    found = entries(batch)
    if len(ours) < 2 or TEACHER_MASK not in found:
        return _units(student, theirs, batch, asker)
    mask = found[TEACHER_MASK]
    if mask.shape != theirs:
        raise ShapeMismatch(
            f"{asker}: {TEACHER_MASK} has shape {tuple(mask.shape)} for units of {tuple(theirs)}."
        )
    kept = counted(batch, student, asker)
    ranks = [torch.where(m, m.cumsum(1) - 1, -1) for m in (kept, mask)]
    return numbered(ranks[0], ranks[1], kept, ours)


def numbered(student: Tensor, teacher: Tensor, mask: Tensor, units: torch.Size) -> Groups:
    """Groups that both sides have and of which the mask keeps every position, numbered through.

    Args:
        student: Numbers of groups in each row ``(N, T)``, negative for none.
        teacher: ``(N, T')``.
        mask: Which of the student's positions count, ``(N, T)``.
        units: Shape of the student's units.

    Raises:
        DataError: A number is beyond the positions of its row (looked at on the CPU only).
    """
    rows = len(student)
    student, teacher, mask = (t.reshape(rows, -1) for t in (student, teacher, mask))
    width = max(student.shape[1], teacher.shape[1])
    for side in (student, teacher):
        if side.device.type == "cpu" and side.numel() and int(side.max()) >= width:
            raise DataError(
                f"groups are numbered from 0 on in each row, and one of {width} positions has the "
                f"number {int(side.max())}."
            )
    offsets = torch.arange(rows, device=student.device)[:, None] * width
    ours, theirs = (
        torch.where(side >= 0, side + offsets, -1).flatten() for side in (student, teacher)
    )
    held, met = _lengths(ours, rows * width), _lengths(theirs, rows * width)
    whole = _lengths(torch.where(mask.flatten(), ours, -1), rows * width) == held
    return Groups(units, ours, theirs, rows * width).only((held > 0) & (met > 0) & whole)


def entries(batch: Batch) -> dict[str, Tensor]:
    """The batch's named inputs; none where it has one tensor."""
    return {} if isinstance(batch.inputs, Tensor) else dict(batch.inputs)


def counted(batch: Batch, student: Tensor, asker: str) -> Tensor:
    """Which of the student's units count, of bool, for its logits ``(N, ..., C)``.

    Raises:
        ShapeMismatch: The mask does not belong to them.
    """
    units = student.shape[:-1]
    if batch.mask is None:
        return torch.ones(units, dtype=torch.bool, device=student.device)
    if batch.mask.shape != units:
        raise ShapeMismatch(
            f"{asker} compares units of {tuple(units)}, and the batch's mask has shape "
            f"{tuple(batch.mask.shape)}: a mask must have one entry for each unit."
        )
    return batch.mask


def log_sums(logs: Tensor, numbers: Tensor, count: int) -> Tensor:
    r"""The log of the sum of exponentials in each group.

    .. math:: L_g = \log \sum_{i: n_i = g} e^{x_i}

    Args:
        logs: x, ``(M,)``.
        numbers: n, the group of each, ``(M,)``, from 0 to count - 1.
        count: G; every group has a member.

    Returns:
        ``(G,)``.

    Example:
        >>> log_sums(torch.tensor([0.0, 0.0, -1e4]), torch.tensor([0, 0, 1]), 2)
        tensor([ 6.9315e-01, -1.0000e+04])
    """
    most = logs.new_full((count,), -torch.inf)
    most = most.scatter_reduce(0, numbers, logs.detach(), "amax")
    sums = logs.new_zeros(count).index_add(0, numbers, (logs - most.gather(0, numbers)).exp())
    return sums.log() + most


def _units(student: Tensor, theirs: torch.Size, batch: Batch, asker: str) -> Groups:
    """Every unit as a group of its own."""
    ours = student.shape[:-1]
    if ours != theirs:
        raise ShapeMismatch(
            f"{asker} got units of {tuple(ours)} from the student and {tuple(theirs)} from the "
            "teacher, and no groups: make batches by tutelage.data.text.aligned, and use the "
            "setting cross_tokenizer."
        )
    mask = counted(batch, student, asker).flatten()
    each = torch.arange(mask.numel(), device=mask.device)
    return Groups(ours, each, each, mask.numel()).only(mask)


def _first(numbers: Tensor, count: int) -> Tensor:
    places = torch.arange(len(numbers), device=numbers.device)
    first = places.new_full((count + 1,), len(numbers))
    return first.scatter_reduce(0, numbers % (count + 1), places, "amin")[:count]


def _lengths(numbers: Tensor, count: int) -> Tensor:
    none = torch.where(numbers < 0, count, numbers)
    return torch.bincount(none, minlength=count + 1)[:count]


def _renumbered(side: Tensor, number: Tensor) -> Tensor:
    if not len(number):
        return torch.full_like(side, -1)
    return torch.where(side >= 0, number[side.clamp(min=0)], -1)
