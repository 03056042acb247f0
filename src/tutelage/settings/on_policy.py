"""The student writes, and the teacher says of every token what it would have written.

Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem: On-Policy Distillation of Language
Models: Learning from Self-Generated Mistakes, 2023, arXiv:2306.13649.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers
from tutelage.core.registry import register
from tutelage.core.seeds import derive, uniform
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within
from tutelage.objectives.base import AbstractObjective
from tutelage.settings.on_policy_taught import AbstractTaught, lesson_of
from tutelage.settings.prompts import prompts_of
from tutelage.settings.rollouts_setting import Lesson, ids_of, pen


@register("setting", "on_policy")
class OnPolicy(AbstractTaught):
    r"""GKD: learn from the teacher on text of one's own, and on the data's for the rest.

    .. math:: (1 - \lambda) \, E_{(x, y) \sim data} \big[D(p \,\|\, q)(y | x)\big] +
        \lambda \, E_{x \sim data, \, y \sim q(\cdot | x)} \big[D(p \,\|\, q)(y | x)\big]

    with any objective on logits as D (``kd`` is forward KL, ``reverse_kl``, ``js``, ``skew_kl``
    ...), as a mean over the tokens of the answers: those that count in the data, those that were
    written. No gradient goes through the draw. Prompts are what stands before the first token
    that counts (`tutelage.settings.prompts.prompts_of`); rows without an answer are left out.

    The data's answers have ``variant`` 0, the student's own 1, so that ``contrastive_skew`` and
    ``only`` can tell them apart. Own text is no truth: its targets are -1, so ``ce`` beside a
    divergence learns from the data's answers alone (and its mean is over all tokens).

    One time of writing serves ``write_for`` updates. Staleness is then 0 to ``write_for - 1``
    updates; no importance weights are applied, which leaves forward KL what it is and makes
    reverse KL that of slightly older text. ``{reweighted: {inner: ..., by: importance}}`` applies
    them (`tutelage.settings.on_policy_importance`).

    The student writes in eval mode and in the precision of its weights. In several processes each
    writes the whole batch, alike, and learns from its share.

    Deviations: the paper flips the coin for each batch; ``by: row`` flips one for each row. Its
    divergence of an answer is a mean over that answer's tokens; here long answers weigh more, which
    ``{reweighted: {inner: kd, by: {per_sequence: {length: 60}}}}`` undoes.

    Args:
        student: Who writes and learns.
        teacher: A live one: of text that nobody has seen there are no cached answers.
        objective: The divergence, and what else.
        share: Lambda, of the student's own text: 0 is `Classic`.
        by: What is drawn to be own or the data's: a ``batch`` or a ``row``.
        most: Tokens of an answer at most.
        temperature: Of the draw; that of the loss is the objective's.
        top_p: Share of the likeliest tokens that are drawn from.
        top_k: So many of the likeliest are drawn from; None is all.
        end: Number of the token that ends an answer.
        write_for: Updates from one time of writing.

    Raises:
        RecipeError: An option is out of range, or the teacher is a cache.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers,
        objective: AbstractObjective,
        *,
        share: float = 0.5,
        by: Literal["batch", "row"] = "batch",
        most: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int | None = None,
        end: int | None = None,
        write_for: int = 1,
    ):
        name = "on_policy"
        how = pen(most, temperature, top_p, top_k, end, name)
        super().__init__(student, teacher, objective, how, write_for, name)
        self.share = number_within(share, f"{name}: share", least=0, most=1)
        if by not in ("batch", "row"):
            raise RecipeError(f"{name}: by must be batch or row, got {by!r}.")
        self.by = by

    def lessons(self, batches: Sequence[Batch], seed: int) -> list[Lesson]:
        """Of each batch the rows that are drawn get an answer of the student's own."""
        prompts = [prompts_of(batch, "on_policy") for batch in batches]
        own = [
            self._own(ids_of(batch)[each.rows], derive(seed, "own", k))
            for k, (batch, each) in enumerate(zip(batches, prompts, strict=True))
        ]
        chosen = [each[mine] for each, mine in zip(prompts, own, strict=True)]
        numbers = [ids_of(b)[each.rows] for b, each in zip(batches, chosen, strict=True)]
        data = sum(map(len, prompts)) - sum(map(len, chosen))
        texts = self.written(chosen, numbers, derive(seed, "text"), data=data)
        return [
            lesson_of(batch, text, each.rows, theirs.rows[~mine])
            for batch, text, each, theirs, mine in zip(
                batches, texts, chosen, prompts, own, strict=True
            )
        ]

    def _own(self, ids: Tensor, seed: int) -> Tensor:
        """Which of these rows get an answer of the student's own, ``(M,)`` of bool."""
        numbers = ids if self.by == "row" else torch.zeros_like(ids)
        return uniform(seed, numbers)[:, 0] < self.share
