"""Several answers to each question, compared with each other and with a reference.

Rafailov, Sharma, Mitchell, Ermon, Manning, Finn: Direct Preference Optimization: Your Language
Model is Secretly a Reward Model, 2023, arXiv:2305.18290.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError
from tutelage.core.outputs import Answers, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.observed import Frozen
from tutelage.objectives.base import AbstractObjective, AbstractWrapper, Sum
from tutelage.settings.probing import asked, check_student, frozen, probed
from tutelage.settings.prompts import named, text_of


@register("setting", "preference")
class Preference(AbstractSetting[Batch]):
    """DPO and its kin: an example is a question with all its answers, and is never torn apart.

    Rows of one id are answers to one question, one of each variant: 0 is the best. They are put
    side by side before the update, so that accumulation and several processes cut between
    questions, each of which weighs alike: parts then add up to the whole, which they do not where
    pairs are torn, or weighed by their numbers of tokens.

    Args:
        student: Who learns.
        objective: ``dpo``, ``simpo``, ``ranked_answers``, ``chosen_answer`` and sums of them.
        teacher: The reference of ``dpo``, or whose ranking is learnt; None is a frozen copy of
            the student as it is now.

    Raises:
        RecipeError: The objective does not compare answers, or reads features.
    """

    def __init__(
        self, student: Learner, objective: AbstractObjective, teacher: Answers | None = None
    ):
        check_student(student)
        for part in _parts(objective):
            if not part.needs_variants or any(part.taps):
                raise RecipeError(
                    f"preference: {getattr(part, 'name', type(part).__name__)} is no comparison of "
                    "whole answers, and its mean would be over another number: take dpo, simpo, "
                    "ranked_answers, and chosen_answer in the place of ce."
                )
        if teacher is None and objective.needs_teacher:
            teacher = Frozen(copy.deepcopy(student.model))
        self.student = student
        self.teacher = frozen(teacher)
        self.whole = Whole(objective)

    def prepare(self, item: Batch) -> None:
        """Look at both answers.

        Raises:
            DataError: The item has no answers to compare.
            ShapeMismatch: One of the two cannot read them.
        """
        rows = flat(side_by_side(item))
        answer = probed(self.student, rows)
        self.whole.objective.bind(
            answer, answer if self.teacher is None else asked(self.teacher, rows)
        )
        self.student.adopt(self.whole.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item."""
        yield Update(self.student, self.compare, side_by_side(item))
        self.whole.objective.advance()

    def compare(self, batch: Batch) -> Terms:
        """What the objective says of (some of) the questions."""
        rows = flat(batch)
        ours = self.student(rows)
        theirs = ours.detach() if self.teacher is None else self.teacher(rows).detach()
        terms: Terms = self.whole.objective(ours, theirs, rows)
        return terms


class Whole:
    """An objective that compares rows, where none of its comparisons is ever torn apart.

    The engine warns of objectives that see a part of what they compare, and looks for them among
    a setting's modules: this is none. Its state is in the learner, which adopts it.
    """

    def __init__(self, objective: AbstractObjective):
        self.objective = objective


def side_by_side(batch: Batch) -> Batch:
    """From ``(Q * K, T)`` rows, K answers to each question, to ``(Q, K, T)``.

    Positions that the mask leaves out have target -1, and there is no mask: the units are
    questions.

    Raises:
        DataError: A question lacks an answer that others have, or has one twice; there are no
            targets, ids or variants.

    Example:
        >>> rows = torch.arange(8).view(4, 2)
        >>> pairs = Batch(
        ...     {"input_ids": rows}, rows, ids=torch.tensor([7, 3, 3, 7]),
        ...     variant=torch.tensor([0, 1, 0, 1]),
        ... )
        >>> side_by_side(pairs).inputs["input_ids"][0].tolist()
        [[4, 5], [2, 3]]
    """
    text = text_of(batch, "preference")
    if batch.targets is None or batch.ids is None or batch.variant is None:
        raise DataError(
            "preference needs targets, ids and variants: rows of one id are answers to one "
            "question, and variant 0 is the best."
        )
    targets = batch.targets
    if batch.mask is not None:
        kept = batch.mask.view(*batch.mask.shape, *[1] * (targets.ndim - batch.mask.ndim))
        targets = targets.masked_fill(~kept, -1)
    answers = int(batch.variant.max()) + 1
    order = batch.variant.argsort(stable=True)
    order = order[batch.ids[order].argsort(stable=True)]
    ids, variant = batch.ids[order], batch.variant[order]
    wanted = torch.arange(len(text), device=text.device) % answers
    whole = len(text) % answers == 0 and answers > 1
    if not whole or not bool((variant == wanted).all()) or _torn(ids.view(-1, answers)):
        found = [f"{i}/{v}" for i, v in zip(ids[:6].tolist(), variant[:6].tolist(), strict=True)]
        raise DataError(
            f"preference needs variants 0 to {max(answers, 2) - 1} of each question, once each, "
            f"and this batch has (id/variant) {', '.join(found)} ...: keep the answers to a "
            "question in one batch."
        )
    inputs = {
        name: t[order].unflatten(0, (-1, answers))  # type: ignore[no-untyped-call]
        for name, t in named(batch).items()
    }
    folded = targets[order].unflatten(0, (-1, answers))  # type: ignore[no-untyped-call]
    return Batch(inputs, folded, None, ids[::answers])


def flat(batch: Batch) -> Batch:
    """From ``(Q, K, T)`` back to rows ``(Q * K, T)``, with ids and variants of each."""
    assert batch.targets is not None
    assert batch.ids is not None
    questions, answers = batch.targets.shape[:2]
    return Batch(
        {name: t.flatten(0, 1) for name, t in named(batch).items()},
        batch.targets.flatten(0, 1),
        None,
        batch.ids.repeat_interleave(answers),
        variant=torch.arange(answers, device=batch.ids.device).repeat(questions),
    )


def _torn(ids: Tensor) -> bool:
    """Whether a row of ``ids`` ``(Q, K)`` is of several questions, or a question has two rows."""
    first = ids[:, 0]  # sorted
    return bool((ids != first[:, None]).any()) or bool((first[1:] == first[:-1]).any())


def _parts(objective: AbstractObjective) -> Iterator[AbstractObjective]:
    """The comparisons themselves, out of sums and weights."""
    if isinstance(objective, Sum):
        for part in objective.parts:
            yield from _parts(part)  # type: ignore[arg-type]  # a ModuleList forgets its type
    elif isinstance(objective, AbstractWrapper):
        yield from _parts(objective.inner)
    else:
        yield objective
