r"""Distributions over two vocabularies, compared over the tokens that both have.

Wan, Huang, Cai, Quan, Bi, Shi: Knowledge Fusion of Large Language Models, 2024, arXiv:2401.10491.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.crossed.divergences import apart, known
from tutelage.objectives.crossed.groups import groups_of
from tutelage.objectives.crossed.vocabulary import checked_map, shared_classes
from tutelage.objectives.units import enough_classes, number, raised, whole


@dataclass(frozen=True)
class Buckets:
    """What is compared: tokens that both have, and all others as one.

    Attributes:
        ours: Numbers of the student's tokens that take part, ``(M,)``, ascending.
        theirs: For each of the teacher's tokens its place among these, M for the others.
    """

    ours: Tensor
    theirs: Tensor

    def student(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``(R, M)`` of the tokens that take part, and ``(R, others)``."""
        log_q = F.log_softmax(logits, dim=-1)
        out = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        out[self.ours] = False
        return log_q[:, self.ours], log_q[:, out]

    def teacher(self, log_p: Tensor, places: Tensor) -> Tensor:
        """Logs of the mass ``(R, M + 1)`` in each bucket, -inf where there is nothing.

        Args:
            log_p: Log-probabilities ``(R, K)``.
            places: The bucket of each, ``(R, K)``.
        """
        most = log_p.new_full((len(log_p), len(self.ours) + 1), -torch.inf)
        most = most.scatter_reduce(1, places, log_p, "amax")
        parts = (log_p - most.gather(1, places)).exp()
        return torch.zeros_like(most).scatter_add(1, places, parts).log() + most


def buckets_of(tokens: Tensor) -> Buckets:
    """The buckets of a map from the teacher's tokens to the student's, -1 for none.

    Example:
        >>> buckets_of(torch.tensor([7, -1, 2, 7]))
        Buckets(ours=tensor([2, 7]), theirs=tensor([1, 2, 0, 1]))
    """
    ours = torch.unique(tokens[tokens >= 0])
    place = torch.searchsorted(ours, tokens.clamp(min=0)).clamp(max=len(ours))
    return Buckets(ours, torch.where(tokens >= 0, place, len(ours)))


def overlap_divergence(
    student: Tensor,
    teacher: Tensor,
    tokens: Tensor,
    divergence: str = "forward",
    temperature: float = 1.0,
) -> Tensor:
    r"""Divergence over the tokens that both have and one bucket for all others, times :math:`T^2`.

    .. math:: T^2 D(\hat p, \hat q), \quad \hat q = (q_m)_{m \in M} \cup \Big(\sum_{c \notin M} q_c
        \Big), \quad \hat p = \Big(\sum_{c \to m} p_c\Big)_{m \in M} \cup \Big(\sum_{c \to} p_c\Big)

    Neither side is normalised anew: what lies outside the overlap keeps its mass on both.

    Args:
        student: Logits ``(R, V)``.
        teacher: Logits ``(R, V')``; what lies beyond the map fills a head up, and is cut off.
        tokens: For each of the teacher's tokens the student's, -1 for none, of at most V' numbers.
        divergence: ``forward``, ``reverse`` or ``js``.
        temperature: T > 0, of both softmaxes.

    Returns:
        ``(R,)``, in nats; 0 where the buckets have the same masses.

    Raises:
        ShapeMismatch: The map is of other vocabularies.
        RecipeError: The divergence would be infinite: only one of the two has other tokens.

    Example:
        >>> theirs = torch.tensor([[0.5, 0.25, 0.25]]).log()
        >>> ours = torch.tensor([[0.25, 0.5, 0.25]]).log()
        >>> tokens = torch.tensor([1, -1, -1])  # the teacher's 0 is the student's 1
        >>> round(overlap_divergence(ours, theirs, tokens).item(), 6)
        0.0
    """
    _check_map(tokens, student.shape[-1], teacher.shape[-1])
    buckets = buckets_of(tokens.to(student.device))
    student, teacher = raised(student) / temperature, raised(teacher) / temperature
    log_q, others = buckets.student(student)
    log_p = F.log_softmax(teacher[:, : len(tokens)], dim=-1)
    log_p = buckets.teacher(log_p, buckets.theirs.expand(len(log_p), -1))
    rest = bool((tokens < 0).any())
    _check_finite(divergence, ours=others.shape[-1] > 0, theirs=rest)
    if others.shape[-1] or rest:
        log_q = torch.cat([log_q, _log_mass(others)], dim=-1)
        log_p = log_p.clamp(min=_NOTHING)
    else:
        log_p = log_p[:, :-1]
    return temperature**2 * apart(log_q, log_p, divergence)


def sparse_overlap_divergence(
    student: Tensor, teacher: SparseOutputs, tokens: Tensor, divergence: str = "forward"
) -> Tensor:
    """`overlap_divergence` at T = 1 of an answer that keeps some tokens and the mass of all others.

    Kept tokens that both have are compared one by one. All else is one bucket on both sides: kept
    tokens that the student lacks, and the tail.

    Args:
        student: Logits ``(R, V)``.
        teacher: Of units ``(R,)``.
        tokens: For each of the teacher's tokens the student's, -1 for none.
        divergence: ``forward``, ``reverse`` or ``js``.

    Returns:
        ``(R,)``, in nats.
    """
    buckets = buckets_of(tokens.to(student.device))
    log_q, others = buckets.student(raised(student))
    beyond = teacher.top >= len(tokens)
    places = buckets.theirs[teacher.top.clamp(max=len(tokens) - 1)]
    places = torch.where(beyond, len(buckets.ours), places)
    log_p = buckets.teacher(raised(teacher.logits), places)
    rest = torch.logaddexp(log_p[:, -1], raised(teacher.log_tail)).clamp(min=_NOTHING)
    hit = log_p[:, :-1] > -torch.inf
    missed = torch.cat([log_q.masked_fill(hit, -1e30), others], dim=-1)
    # What was not kept is in the rest, and counts for nothing in its own place.
    ours = torch.cat([torch.where(hit, log_q, _NOTHING), _log_mass(missed)], dim=-1)
    theirs = torch.cat([torch.where(hit, log_p[:, :-1], _NOTHING), rest[:, None]], dim=-1)
    return apart(ours, theirs, divergence)


@register("objective", "overlap")
class VocabularyOverlap(AbstractUnitLoss):
    r"""Overlap: whole distributions matched, over the tokens that both vocabularies have.

    .. math:: \frac{1}{n} \sum_g T^2 D(\hat p_g, \hat q_g) \quad (overlap\_divergence)

    Compared is what both predict where a group of the text begins (`tutelage.data.text.aligned`):
    there both have read the same bytes. Tokens of the same bytes are compared one by one, all
    others as one bucket, whose mass stays in it on both sides. Within one vocabulary (``tokens``
    left out) it is plain distillation over the classes that both heads have.

    Neighbours: `SoftTarget` is the same for one vocabulary; `LikelihoodMatching` needs no overlap
    at all, and with groups: ``many`` covers what this one leaves out: the further tokens of a
    group; `UniversalLogit` compares by rank, without knowing tokens.

    Suggested weight: 1 beside 1 of likelihood matching with groups: many, or of cross entropy.

    Scale: sum over tokens, T squared inside; divided by the tokens that the student predicts, so
    that parts of a batch add up.

    Traps: what share of probability lies in the overlap decides what this can teach:
    `tutelage.objectives.crossed.coverage` tells. A student that has no token outside the overlap
    (bytes) cannot be compared by forward KL where the teacher has: map all of the teacher's tokens
    (`token_map` with ``first``), or use ``js``.

    Deviations: the paper normalises what is left after the alignment of tokens; here nothing is.

    Sparse answers (top k with tail) are used at T = 1.

    Args:
        tokens: For each of the teacher's tokens, in their order, the number of the student's that
            stands for it, -1 for none (`token_map`); several may share one. None where both have
            one vocabulary, padded differently or not.
        divergence: ``forward``, ``reverse`` or ``js``.
        temperature: T > 0.
        at: ``first``: where any group begins; ``one_to_one``: only where it is one token for both.
        vocabulary: How many leading classes of the student's head are tokens, and of the teacher's
            too where ``tokens`` is None; all if None. Classes beyond take no part.
    """

    name = "overlap"
    divergence = True

    def __init__(
        self,
        tokens: Sequence[int] | Tensor | None = None,
        divergence: Literal["forward", "reverse", "js"] = "forward",
        temperature: float = 1.0,
        at: Literal["first", "one_to_one"] = "first",
        vocabulary: int | None = None,
    ):
        super().__init__()
        self.register_buffer("tokens", checked_map(tokens, self.name), persistent=False)
        self.kind = known(divergence, self.name)
        self.temperature = number(temperature, "temperature", self.name, above=0)
        if at not in ("first", "one_to_one"):
            raise RecipeError(f"overlap: at must be 'first' or 'one_to_one', got {at!r}.")
        self.at = at
        self.vocabulary = None if vocabulary is None else whole(vocabulary, "vocabulary", self.name)

    tokens: Tensor | None

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a group, at its first position of the student."""
        enough_classes(student.logits, self.name)
        groups = groups_of(student.logits, teacher, batch, self.name)
        if self.at == "one_to_one":
            groups = groups.only(groups.one_to_one())
        ours, theirs = groups.firsts()
        rows = student.logits.flatten(0, -2)[ours]
        told = teacher.logits.flatten(0, -2)[theirs]
        if not isinstance(teacher, SparseOutputs):
            return groups.spread(self._dense(rows, told))
        if self.temperature != 1:
            raise SparseAnswer(
                f"overlap at temperature {self.temperature:g} needs the logits of all classes, and "
                f"this teacher's answers keep only {teacher.top.shape[-1]}: set temperature: 1, or "
                "keep dense answers."
            )
        top, log_tail = teacher.top.flatten(0, -2)[theirs], teacher.log_tail.flatten()[theirs]
        kept = SparseOutputs(told, top=top, log_tail=log_tail)
        rows = rows[:, : self.vocabulary]
        tokens = torch.arange(rows.shape[-1]) if self.tokens is None else self.tokens
        return groups.spread(sparse_overlap_divergence(rows, kept, tokens, self.kind))

    def _dense(self, rows: Tensor, told: Tensor) -> Tensor:
        if self.tokens is not None:
            rows = rows[:, : self.vocabulary]
            return overlap_divergence(rows, told, self.tokens, self.kind, self.temperature)
        rows, told = shared_classes(rows, told, self.vocabulary, self.name)
        log_q = F.log_softmax(rows / self.temperature, dim=-1)
        log_p = F.log_softmax(told / self.temperature, dim=-1)
        return self.temperature**2 * apart(log_q, log_p, self.kind)


_NOTHING = -1e5
"""The log of a mass that is none; finite, so that nothing times it is nothing."""


def _log_mass(logs: Tensor) -> Tensor:
    """The log of all mass ``(R, 1)`` of some tokens."""
    if not logs.shape[-1]:
        return logs.new_full((len(logs), 1), _NOTHING)
    return logs.logsumexp(-1, keepdim=True).clamp(min=_NOTHING)


def _check_map(tokens: Tensor, ours: int, theirs: int) -> None:
    if len(tokens) > theirs or (tokens.device.type == "cpu" and int(tokens.max()) >= ours):
        raise ShapeMismatch(
            f"overlap has a map of {len(tokens)} tokens of the teacher to numbers up to "
            f"{int(tokens.max())} of the student, and got logits of {theirs} and {ours} classes: "
            "make the map of these models' own tokenizers."
        )


def _check_finite(divergence: str, *, ours: bool, theirs: bool) -> None:
    """Refuse what is infinite whatever the student learns."""
    if (divergence == "forward" and theirs and not ours) or (
        divergence == "reverse" and ours and not theirs
    ):
        who, other = ("teacher", "student") if divergence == "forward" else ("student", "teacher")
        raise RecipeError(
            f"overlap: only the {who} has tokens outside the overlap, so the {divergence} "
            f"divergence from the {other} is infinite: use divergence: js, or map all of the "
            "teacher's tokens (token_map with 'first')."
        )
