"""Dual-space distillation: each network's states read by the other's head.

Zhang, Zhang, Sun, Chen, Xu: Dual-Space Knowledge Distillation for Large Language Models, 2024,
arXiv:2406.17328.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import register
from tutelage.objectives.contrastive.heads import AbstractTerms
from tutelage.objectives.held import keep_or_make, refuse_unbound
from tutelage.objectives.hidden.cross_model import (
    cross_attention,
    cut_of,
    embedding_width,
    read_rightly,
    standardized,
)
from tutelage.objectives.hidden.tokens import one_of, token_shares
from tutelage.objectives.language.divergences import parts_of
from tutelage.objectives.language.heads import linear_of
from tutelage.objectives.language.linear_head import linear_divergence
from tutelage.objectives.units import given, number

Start = Literal["random", "logits"]
"""How projectors begin: at random, or so that logits stay what they are."""


def projector_between(source: Tensor, target: Tensor) -> Tensor:
    r"""The matrix after which one head reads what another read before, as nearly as can be.

    .. math:: \arg\min_P \| W_{target} P - W_{source} \|_F^2 = W_{target}^+ \, W_{source}

    Args:
        source: The head that reads the states now, ``(V, D)``.
        target: The head that is to read them projected, ``(V', D')``; the classes both have count.

    Returns:
        P, ``(D', D)``: the weight of a linear module from D to D'.

    Example:
        >>> w = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> projector_between(2 * w, w).round().tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    shared = min(len(source), len(target))
    left, right = target[:shared].detach().double(), source[:shared].detach().double()
    inverse: Tensor = torch.linalg.pinv(left.T @ left, hermitian=True)
    return (inverse @ (left.T @ right)).to(source.dtype)


@register("objective", "dskd")
class DualSpace(AbstractTerms):
    r"""DSKD: student and teacher compared in the student's space, and in the teacher's.

    .. math:: D\big(\sigma(W_s P h^t) \,\|\, \sigma(W_s h^s)\big)
        + KL\big(\sigma(W_t h^t) \,\|\, \sigma(W_t P' h^s)\big)
        - \log \sigma_y(W_s P h^t)

    Each divergence is of two softmaxes of one head, the student's W_s or the teacher's W_t, after
    a learned projector P of the teacher's states or P' of the student's. The first (the term
    ``dskd_student``) teaches the student alone; the second (``dskd_teacher``) the student through
    P'; the third (``dskd_projector``) P alone.

    With `embeddings`, tokenizers may differ: cross-model attention (`cross_attention`) between
    what the tokens are and what follows them mixes the other network's states for each token. P
    then reads :math:`h^t + e^t_{next}`, both standardised, and the first term counts only where
    the projected teacher is right.

    Neighbours: `LinearHead` compares each network's own head's answers, which needs one
    vocabulary; `TinyBERTStates` compares states, whatever heads read in them.

    Suggested weight: 0.5 beside 0.5 of cross entropy, at T = 2 (the authors' runs, GPT-2 and
    TinyLlama).

    Scale: the authors' code: sums over tokens divided by the student's counted tokens; T squared
    inside, which theirs has not.

    Deviations: the authors standardise by one number for the whole batch, with its padding; here
    each text has its own, so that no text depends on another.

    Traps: heads must be plain linear modules, and the features what they read. Vocabularies of one
    family that are padded differently need no cutting: each term has one head. Logits are formed a
    few rows at a time, so that memory does not grow with tokens.

    Args:
        student: Student feature that its head reads, ``(N, T, D)``, such as ``lm_head:in``.
        teacher: The teacher's, ``(N, T', D')``.
        student_head: Path of the student's head, borrowed.
        teacher_head: Path of the teacher's.
        divergence: D: ``forward``, ``reverse``, ``js``, ``skew``, ``skew_reverse`` or
            ``alpha_beta``.
        temperature: T > 0, of both divergences.
        alpha: Share or power of ``skew``, ``skew_reverse`` (0.1) and ``alpha_beta`` (0.8).
        beta: Share or power of ``js`` (0.5) and ``alpha_beta`` (0.3).
        embeddings: Paths of the student's and the teacher's token embeddings, borrowed, where
            tokenizers differ. The batch's inputs then hold ``teacher.input_ids`` ``(N, T')``, what
            follows each of them as ``teacher.targets``, and which of those count as
            ``teacher.mask`` (`tutelage.data.text.aligned` makes such batches).
        start: How projectors begin: ``random``, or ``logits``: where the other head reads most
            nearly the same in them (arXiv:2504.11426); for one tokenizer.
    """

    name = "dskd"
    needs_features = True
    needs_targets = True
    example: ClassVar[Mapping[str, Any]] = {
        "student": "feature",
        "teacher": "feature",
        "student_head": "head",
        "teacher_head": "head",
    }

    def __init__(
        self,
        student: str,
        teacher: str,
        student_head: str,
        teacher_head: str,
        *,
        divergence: Literal[
            "forward", "reverse", "js", "skew", "skew_reverse", "alpha_beta"
        ] = "forward",
        temperature: float = 2.0,
        alpha: float | None = None,
        beta: float | None = None,
        embeddings: Sequence[str] | None = None,
        start: Start = "random",
    ):
        super().__init__()
        names = [] if embeddings is None else list(embeddings)
        paths = [student, teacher, student_head, teacher_head, *names]
        if len(names) not in (0, 2) or not all(isinstance(path, str) and path for path in paths):
            raise RecipeError(
                "dskd: features and heads are named by path, embeddings by two (the student's, the "
                f"teacher's), got {paths!r}."
            )
        parts_of(divergence, alpha, beta, self.name)
        self.taps = ([student], [teacher])
        self.borrows = ([student_head, *names[:1]], [teacher_head, *names[1:]])
        self.crossing = bool(names)
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.form: dict[str, Any] = {"divergence": divergence, "alpha": alpha, "beta": beta}
        self.start = one_of(start, "start", Start, self.name)
        if self.crossing and self.start == "logits":
            raise RecipeError("dskd: start: logits needs one tokenizer: leave embeddings out.")
        self.projectors = nn.ModuleDict()

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make the projectors, from torch's random state or from both heads."""
        s, t = student.float()[self.taps[0][0]], teacher.float()[self.taps[1][0]]
        for whose, states, head in zip(
            ("student", "teacher"), (s, t), (self._head(0), self._head(1)), strict=True
        ):
            if states.ndim not in (2, 3) or states.shape[-1] != head.in_features:
                raise ShapeMismatch(
                    f"dskd: the {whose}'s head reads vectors of {head.in_features}, and its "
                    f"feature is {tuple(states.shape)}: tap what the head is given ('lm_head:in')."
                )
        ours, theirs = s.shape[-1], t.shape[-1]
        sizes = {"to_student": (theirs, ours), "to_teacher": (ours, theirs)}
        if self.crossing:
            sizes["query"] = self._query_size(theirs)
        for key, (width, wanted) in sizes.items():
            keep_or_make(
                self.projectors,
                key,
                s,
                partial(self._projector, key, width, wanted),
                partial(_maps, width, wanted),
            )

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The three terms."""
        refuse_unbound(self.projectors, self.name)
        s, t = student[self.taps[0][0]], teacher[self.taps[1][0]]
        seen = self._crossed(s, t, batch) if self.crossing else self._side_by_side(s, t, batch)
        ours, theirs = self._head(0), self._head(1)
        weight, bias = ours.weight.detach(), None if ours.bias is None else ours.bias.detach()
        their_weight, their_bias = theirs.weight.detach(), theirs.bias
        projected = seen.student.detach()
        apart = partial(linear_divergence, temperature=self.temperature, count=1.0)
        return {
            "dskd_student": apart(
                s,
                ours.weight,
                projected,
                weight,
                weights=seen.taught,
                student_bias=ours.bias,
                teacher_bias=bias,
                **self.form,
            ),
            "dskd_teacher": apart(
                seen.teacher,
                their_weight,
                t,
                their_weight,
                weights=seen.theirs,
                student_bias=their_bias,
                teacher_bias=their_bias,
            ),
            # Of one answer with itself the divergence is 0, and cross entropy is left.
            "dskd_projector": apart(
                seen.student,
                weight,
                projected,
                weight,
                weights=seen.ours,
                student_bias=bias,
                teacher_bias=bias,
                labels=given(batch.targets, self.name),
                cross_entropy=1.0,
            ),
        }

    def _side_by_side(self, s: Tensor, t: Tensor, batch: Batch) -> "_Seen":
        """Token by token, where both networks have one tokenizer."""
        to_student, to_teacher = self.projectors["to_student"](t), self.projectors["to_teacher"](s)
        shares = token_shares(batch, s.shape[:-1], self.name, s.dtype)
        return _Seen(to_student, to_teacher, shares, shares, shares)

    def _crossed(self, s: Tensor, t: Tensor, batch: Batch) -> "_Seen":
        """Through attention between the tokens of both."""
        ours, theirs = (
            cut_of(batch, whose, hidden, self._embedding(side), self.name)
            for side, (whose, hidden) in enumerate((("student", s), ("teacher", t)))
        )
        shares = token_shares(batch, s.shape[:-1], self.name, s.dtype)
        counted = ours.counted & (shares > 0)
        queries = self.projectors["query"](ours.embedded)
        keys = standardized(theirs.embedded, theirs.counted)
        given_theirs = standardized(t, theirs.counted) + standardized(
            theirs.following, theirs.counted
        )
        taken, lent = cross_attention(queries, keys, counted, theirs.counted)
        to_student = taken @ self.projectors["to_student"](given_theirs)
        to_teacher = lent @ self.projectors["to_teacher"](s)
        shares = torch.where(theirs.counted.any(1, keepdim=True), shares * counted, 0.0)
        each = shares.sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
        head = self._head(0)
        targets = given(batch.targets, self.name)
        right = read_rightly(to_student, head.weight, head.bias, targets, shares > 0)
        return _Seen(to_student, to_teacher, shares, shares * right, each * theirs.counted)

    def _projector(self, key: str, width: int, wanted: int) -> nn.Module:
        made = nn.Linear(width, wanted)
        if self.start == "logits":
            heads = [self._head(0).weight, self._head(1).weight]
            source, target = heads if key == "to_teacher" else heads[::-1]
            with torch.no_grad():
                made.weight.copy_(projector_between(source, target))
                made.bias.zero_()
        return made

    def _query_size(self, wanted: int) -> tuple[int, int]:
        mine, other = (
            embedding_width(self._embedding(side), self.borrows[side][1], self.name)
            for side in (0, 1)
        )
        if other != wanted:
            raise ShapeMismatch(
                f"dskd adds the teacher's embeddings of width {other} to its states of width "
                f"{wanted}: they must be as wide."
            )
        return 2 * mine, 2 * other

    def _head(self, side: int) -> nn.Linear:
        path = self.borrows[side][0]
        return linear_of(self._lent(side, path), path, self.name)

    def _embedding(self, side: int) -> nn.Module:
        return self._lent(side, self.borrows[side][1])

    def _lent(self, side: int, path: str) -> nn.Module:
        return self.lent.teacher(path) if side else self.lent.student(path)


@dataclass(frozen=True)
class _Seen:
    """Each network's states in the other's space, and what each token's terms weigh."""

    student: Tensor
    teacher: Tensor
    ours: Tensor
    taught: Tensor
    theirs: Tensor


def _maps(width: int, wanted: int, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.weight.shape == (wanted, width)
