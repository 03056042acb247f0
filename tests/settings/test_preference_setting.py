"""Questions with all their answers: never torn, each of equal weight, against a reference."""

import warnings

import numpy as np
import pytest
import torch
from settings_resume import stops_change_nothing
from settings_shared import close
from settings_writing import WORDS, learner, observed

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError
from tutelage.engine import Machine, Record, fit
from tutelage.objectives import (
    DPO,
    ChosenAnswer,
    CrossEntropy,
    Ramp,
    RankedAnswers,
    SimPO,
    SoftTarget,
)
from tutelage.settings import Preference
from tutelage.settings.preference import flat, side_by_side


def pairs(count=3, questions=5, answers=2, seed=0):
    """Good answers repeat the question's last word; lengths differ from row to row."""
    source = torch.Generator().manual_seed(seed)
    found = []
    for k in range(count):
        rows = questions * answers
        tokens = torch.randint(2, WORDS, (rows, 7), generator=source)
        tokens[:, :3] = tokens[::answers, :3].repeat_interleave(answers, 0)
        variant = torch.arange(answers).repeat(questions)
        good = variant == 0
        tokens[good, 3:] = tokens[good, 2:3]
        lengths = torch.randint(1, 5, (rows,), generator=source)
        place = torch.arange(6)
        mask = (place >= 2) & (place < 2 + lengths[:, None])
        targets = tokens[:, 1:].masked_fill(~mask, -1)
        ids = (torch.arange(questions) + 100 * k).repeat_interleave(answers)
        found.append(Batch({"input_ids": tokens[:, :-1]}, targets, mask, ids, variant=variant))
    return found


def made(objective=None, student=None, teacher=None):
    return Preference(student or learner(), objective or DPO(beta=1.0), teacher)


OBJECTIVES = [
    DPO(beta=0.5),
    SimPO() + 0.5 * ChosenAnswer(),
    RankedAnswers("list"),
    RankedAnswers("pairs"),
    RankedAnswers("soft"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["dpo", "simpo", "list", "pairs", "soft"])
def test_uneven_chunks__accumulation_changes_nothing(objective):
    """Wrong weighting under accumulation: parts weigh by questions, not by tokens."""
    whole, parts = (made(objective, teacher=observed(4)) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is torn, so nothing is warned of
        fit(whole, pairs(), steps=3)
        fit(parts, pairs(), steps=3, machine=Machine("cpu", accumulate=3))
    close(whole.student.model, parts.student.model)


def test_the_value_is_that_of_the_rows_as_they_came():
    [batch], setting = pairs(1), made(teacher=observed(4))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    shuffled = Batch(
        {"input_ids": batch.inputs["input_ids"][order]},
        batch.targets[order],
        batch.mask[order],
        batch.ids[order],
        variant=batch.variant[order],
    )
    ours, theirs = setting.student(shuffled), observed(4)(shuffled)
    wanted = DPO(beta=1.0)(ours, theirs, shuffled)["dpo"]
    found = setting.compare(side_by_side(shuffled))["dpo"]
    torch.testing.assert_close(found, wanted)
    rows = flat(side_by_side(shuffled))
    assert torch.equal(rows.targets, batch.targets)
    assert torch.equal(rows.ids, batch.ids)


def test_the_reference_is_the_student_as_it_was_at_first():
    setting, record = made(student=learner(rate=0.5)), Record()
    fit(setting, pairs(), steps=30, hooks=[record])
    losses = [terms["dpo"] for _, _, terms in record.updates]
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert losses[-1] < 0.5
    close(setting.teacher.observed, learner().model)
    assert made(SimPO()).teacher is None


def test_the_chosen_answers_gain_on_the_rejected_ones():
    setting = made(SimPO(), learner(rate=0.5))
    fit(setting, pairs(), steps=40)
    [held_out] = pairs(1, questions=20, seed=9)
    log_q = setting.student(held_out).logits.detach().log_softmax(-1)
    said = log_q.gather(-1, held_out.targets.clamp(min=0)[..., None])[..., 0]
    mean = (said * held_out.mask).sum(1) / held_out.mask.sum(1)
    assert (mean[::2] > mean[1::2]).float().mean() > 0.9


def test_a_ranking_is_learnt_from_the_teacher():
    teacher, setting = observed(4), None
    source = pairs(4, answers=3)

    def agreement(student):
        both = []
        for model in (student, teacher):
            values = []
            for batch in source:
                log_q = model(batch).logits.detach().log_softmax(-1)
                said = log_q.gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
                values.append((said * batch.mask).sum(1) / batch.mask.sum(1))
            both.append(torch.cat(values).view(-1, 3).argsort(1))
        return float((both[0] == both[1]).float().mean())

    setting = made(RankedAnswers("list", beta=5.0), learner(rate=0.3), teacher)
    before = agreement(setting.student.model)
    fit(setting, source, steps=60)
    assert agreement(setting.student.model) > max(before + 0.2, 0.7)


def test_a_stopped_run_goes_on_to_the_bit_with_the_objectives_own_state(tmp_path):
    kept = stops_change_nothing(
        lambda: made(Ramp(DPO(), 4), learner(dropout=0.2)), pairs(), tmp_path, steps=5, stops=(1, 3)
    )
    assert any("helpers" in path for path in kept)


@pytest.mark.parametrize(
    "change",
    [
        {"ids": torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 5])},
        {"variant": torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 0])},
        {"ids": torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 3, 3])},
        {"variant": torch.zeros(10).long()},
    ],
)
def test_torn_pairs_are_refused_in_one_line(change):
    [batch] = pairs(1)
    fields = {"ids": batch.ids, "variant": batch.variant} | change
    torn = Batch(batch.inputs, batch.targets, batch.mask, fields["ids"], variant=fields["variant"])
    with pytest.raises(DataError, match=r"once each, and this batch has \(id/variant\) 0/0") as no:
        fit(made(), [torn], steps=1)
    assert "\n" not in str(no.value)


def test_other_objectives_and_batches_are_refused():
    for objective in (CrossEntropy(), DPO() + 0.1 * SoftTarget()):
        with pytest.raises(RecipeError, match="is no comparison of whole answers"):
            made(objective)
    [batch] = pairs(1)
    with pytest.raises(DataError, match="needs targets, ids and variants"):
        fit(made(), [Batch(batch.inputs, batch.targets)], steps=1)
