r"""Likelihoods of pieces of text matched, whatever tokens either side makes of them.

Minixhofer, Vulić, Ponti: Universal Cross-Tokenizer Distillation via Approximate Likelihood
Matching, 2025, arXiv:2503.20083.
"""

from typing import Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.crossed.divergences import apart, known, log_one_less
from tutelage.objectives.crossed.groups import (
    TEACHER_GROUP,
    TEACHER_TARGETS,
    entries,
    groups_of,
    log_sums,
)
from tutelage.objectives.crossed.likelihood import log_surprisals_of
from tutelage.objectives.units import class_numbers, enough_classes, given, number


def chunk_divergence(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, divergence: str = "forward"
) -> Tensor:
    r"""Divergence of two models on each piece of text: written so, or in any other way.

    .. math:: \tau \, D\big( (P^{1/\tau}, 1 - P^{1/\tau}), \; (Q^{1/\tau}, 1 - Q^{1/\tau}) \big)

    For large temperatures forward and reverse go to the divergence of the surprisals u = -log P and
    v = -log Q themselves, v - u + u log(u / v) and u - v + v log(v / u).

    Args:
        student: The log of the surprisal that each piece is for the student, log(-log Q), ``(G,)``.
        teacher: For the teacher, log(-log P), ``(G,)``.
        temperature: tau > 0.
        divergence: ``forward``, ``reverse`` or ``js``.

    Returns:
        ``(G,)``, in nats; 0 where the likelihoods agree.

    Example:
        >>> u, v = torch.tensor([0.5, 0.25]).log().neg().log()
        >>> chunk_divergence(v, u).item()  # of (1/2, 1/2) from (1/4, 3/4)
        0.1438...
        >>> chunk_divergence(v, u, 1e4).item()  # log 2 - log 2 * log 2
        0.2126...
    """
    logs = []
    for surprisal in (student, teacher):
        tempered = surprisal - torch.tensor(temperature, dtype=torch.float64).log().to(surprisal)
        logs.append(torch.stack([-tempered.exp(), log_one_less(tempered)], dim=-1))
    return temperature * apart(logs[0], logs[1], divergence)


@register("objective", "alm")
class LikelihoodMatching(AbstractUnitLoss):
    r"""ALM: the student finds each piece of the text as likely as its teacher does.

    .. math:: \frac{1}{n} \sum_g \tau \, D\big( P_g^{1/\tau} \,\|\, Q_g^{1/\tau} \big), \quad
        P_g = \prod_{i \in g} p(x_i \mid x_{<i}), \; Q_g = \prod_{j \in g} q(y_j \mid y_{<j})
        \quad (chunk\_divergence)

    D compares two outcomes: this piece, or any other. Pieces are the groups of the batch: the
    finest parts of the text that both tokenizers cut (`tutelage.data.text.aligned`), one token each
    where there is but one tokenizer. The probability of every token counts exactly once, given what
    stands before it.

    Of the teacher it needs the probabilities of the text's own tokens, nothing else: sparse answers
    that keep those will do, and so will a text server (`text_answers`).

    Neighbours: `SoftTarget` compares whole distributions, of one vocabulary; `VocabularyOverlap`
    those over tokens that both have; `UniversalLogit` sorted ones. With groups: ``many`` it goes
    beside `VocabularyOverlap`, which is at its best where groups are one token each.

    Suggested weight: 1 alone, forward at temperature 100 (the authors, transfer of tokenizers).

    Scale: sum over groups, divided by the tokens that the student predicts, so that parts of a
    batch add up; the authors divide by groups. Temperature times the authors' value: it then hardly
    depends on the temperature. At 1 it is the binarised divergence itself.

    Deviations: the authors also multiply each likelihood by the probability that a piece ends
    there, which needs to be told where words begin; that correction is left out.

    Args:
        temperature: tau > 0; a likelihood of many tokens is near 0, and larger ones compare logs.
        divergence: ``forward``, ``reverse`` or ``js``.
        groups: ``all``, or ``many``: those only that are several tokens on one side or both.
        missing: What to do where a sparse answer lacks a token of the text: ``refuse``, or
            ``leave_out`` its group, which favours text that the teacher finds likely.
    """

    name = "alm"
    needs_targets = True
    divergence = True

    def __init__(
        self,
        temperature: float = 100.0,
        divergence: Literal["forward", "reverse", "js"] = "forward",
        groups: Literal["all", "many"] = "all",
        missing: Literal["refuse", "leave_out"] = "refuse",
    ):
        super().__init__()
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.kind = known(divergence, self.name)
        if groups not in ("all", "many"):
            raise RecipeError(f"alm: groups must be 'all' or 'many', got {groups!r}.")
        if missing not in ("refuse", "leave_out"):
            raise RecipeError(f"alm: missing must be 'refuse' or 'leave_out', got {missing!r}.")
        self.groups, self.missing = groups, missing

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a group, at its first position of the student."""
        enough_classes(student.logits, self.name)
        groups = groups_of(student.logits, teacher, batch, self.name)
        ours = class_numbers(batch.targets, student.logits, self.name).flatten()
        theirs = _teacher_targets(teacher, batch, self.name).flatten()
        groups = groups.without(groups.student[ours < 0]).without(groups.teacher[theirs < 0])
        if self.groups == "many":
            groups = groups.only(~groups.one_to_one())
        if self.missing == "leave_out" and isinstance(teacher, SparseOutputs):
            lacking = ~(teacher.top.flatten(0, -2) == theirs.unsqueeze(-1)).any(-1)
            groups = groups.without(groups.teacher[lacking])
        log_q = self._surprisals(student, groups.student, ours, groups.count)
        log_p = self._surprisals(teacher, groups.teacher, theirs, groups.count)
        return groups.spread(chunk_divergence(log_q, log_p, self.temperature, self.kind))

    def _surprisals(self, answer: Outputs, sides: Tensor, targets: Tensor, count: int) -> Tensor:
        """The log of each group's surprisal."""
        (places,) = (sides >= 0).nonzero(as_tuple=True)
        tokens = log_surprisals_of(answer, places, targets[places], self.name)
        return log_sums(tokens, sides[places], count)


def _teacher_targets(teacher: Outputs, batch: Batch, asker: str) -> Tensor:
    """The tokens that the teacher's positions predict, ``(N, ...)``, checked where they can be."""
    inputs = entries(batch)
    if TEACHER_TARGETS not in inputs:
        if TEACHER_GROUP in inputs:
            raise DataError(
                f"{asker} needs the teacher's own tokens, and this batch has no "
                f"{TEACHER_TARGETS!r}: make it by tutelage.data.text.aligned."
            )
        targets = given(batch.targets, asker)
    else:
        targets = inputs[TEACHER_TARGETS]
    if not isinstance(teacher, SparseOutputs):
        return class_numbers(targets, teacher.logits, f"{asker}, for the teacher,")
    if targets.shape != teacher.top.shape[:-1]:
        raise ShapeMismatch(
            f"{asker} got {tuple(targets.shape)} tokens for a teacher's answer of "
            f"{tuple(teacher.top.shape[:-1])} positions."
        )
    return targets
