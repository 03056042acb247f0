"""Contracts with other options, and with groups; extremes; what does not fit is said in one line."""

import math
from dataclasses import replace

import pytest
import torch

from crossed_samples import crossed
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import build
from tutelage.core.seeds import generator
from tutelage.objectives import (
    LikelihoodMatching,
    UniversalLogit,
    VocabularyOverlap,
    chunk_divergence,
    chunk_log_likelihoods,
)
from tutelage.objectives.crossed.likelihood import token_log_surprisals
from tutelage.testing import Probe, objective_contracts

OPTIONS = [
    ("alm", {"temperature": 1.0}),
    ("alm", {"divergence": "reverse", "missing": "leave_out"}),
    ("alm", {"temperature": 3.0, "divergence": "js"}),
    ("uld", {"by": "position", "temperature": 2.0}),
    ("uld", {"top": 2}),
    ("overlap", {"divergence": "reverse", "temperature": 4.0}),
    ("overlap", {"divergence": "js", "at": "one_to_one"}),
    ("overlap", {"tokens": [0, 1, -1, -1, -1]}),
    ("overlap", {"tokens": [1, 0], "divergence": "js", "vocabulary": 2}),
]
# Maps by which the same logits are no agreement, or for which the classes are too few or many.
EXCEPT = ("agreement", "two classes")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_other_options_keep_every_contract(name, options):
    contracts = objective_contracts(lambda: build("objective", name, options))
    for sentence, contract in contracts.items():
        if "tokens" not in options or not sentence.startswith(EXCEPT):
            contract()


def grouped(make, *, examples=7, classes=5, agree=False):
    """Rows of four positions, in three groups or less, that are cut otherwise unless both agree."""

    def drawn(purpose, *shape):
        source = generator(0, "noise" if agree else purpose)
        rows = [torch.randn(shape, generator=source, dtype=torch.float64) for _ in range(examples)]
        return 2 * torch.stack(rows)

    student, teacher = (drawn(purpose, 4, classes) for purpose in ("student", "teacher"))
    number = torch.arange(examples)
    ours = torch.tensor([0, 1, 1, 2]).repeat(examples, 1)
    ours[number % 3 == 1, 3] = -1
    theirs = ours if agree else torch.tensor([0, 0, 1, 2]).repeat(examples, 1)
    targets = (number[:, None] + torch.arange(4)) % classes
    inputs = {"student.group": ours, "teacher.group": theirs, "teacher.targets": targets}
    return Probe(Outputs(student), Outputs(teacher), Batch(inputs, targets, ids=number))


# Masks there are of examples, and units are tokens here.
SKIPPED = ("mask", "stays as it was", "tokens are units", "parts", "targets", "examples depend")


@pytest.mark.parametrize("made", [LikelihoodMatching, UniversalLogit, VocabularyOverlap])
def test_contracts_hold_with_groups(made):
    tried = 0
    for sentence, contract in objective_contracts(made, probe=grouped).items():
        if not any(word in sentence for word in SKIPPED):
            contract()
            tried += 1
    assert tried > 15


@pytest.mark.parametrize("made", [LikelihoodMatching, UniversalLogit, VocabularyOverlap])
def test_masks_of_tokens_with_groups(made):
    """A group counts where the mask keeps all of it; the others' logits may be anything."""
    probe = grouped(None, examples=3)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 2] = mask[1, 0] = False
    batch = replace(probe.batch, mask=mask)
    objective = made()

    def measured(logits):
        logits = logits.clone().requires_grad_()
        (value,) = objective(Outputs(logits), probe.teacher, batch).values()
        return value.item(), torch.autograd.grad(value, logits)[0]

    value, gradient = measured(probe.student.logits)
    spoilt = probe.student.logits.clone()
    spoilt[0, 1:3], spoilt[1, 0], spoilt[1, 3] = 1e4, -1e4, 50.0
    assert measured(spoilt)[0] == value
    assert not gradient[0, 1:3].any()
    assert not gradient[1, 0].any()
    assert bool(gradient[2, 0].any())
    empty = replace(probe.batch, mask=torch.zeros(3, 4, dtype=torch.bool))
    logits = probe.student.logits.clone().requires_grad_()
    (nothing,) = objective(Outputs(logits), probe.teacher, empty).values()
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()


@pytest.mark.parametrize("kind", ["forward", "reverse", "js"])
@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_likelihoods_of_next_to_nothing_and_next_to_one(kind, temperature):
    """One, and one less exp(-10000), and exp(-10000): finite, with a gradient towards the teacher."""
    for ours, theirs in ((1e4, -1e4), (-1e4, 1e4), (1e4, 0.0), (0.0, -1e4)):
        z = torch.tensor([[[ours, 0.0]]], requires_grad=True)
        w = torch.tensor([[[theirs, 0.0]]])
        batch = crossed([[0]], [[0]], targets=[[0]], teacher_targets=[[0]])
        made = LikelihoodMatching(temperature, kind)
        (value,) = made(Outputs(z), Outputs(w), batch).values()
        (gradient,) = torch.autograd.grad(value, z)
        assert bool(value.isfinite())
        assert bool(gradient.isfinite().all())
        assert gradient[0, 0, 0].item() * (ours - theirs) >= 0
        if kind == "forward":
            assert value.item() > 0.1
            assert gradient[0, 0, 0].item() != 0


def test_surprisals_are_exact_at_both_ends():
    gaps = torch.tensor([-1e4, -40.0, -14.9, -15.1, -1.0, 0.0, 1.0, 30.0, 1e4], dtype=torch.float64)
    logits = torch.stack([-gaps, torch.zeros_like(gaps)], dim=-1)
    found = token_log_surprisals(logits, torch.zeros(9, dtype=torch.int64))
    wanted = [-1e4, -40.0, *(torch.log1p(gaps[2:8].exp()).log()).tolist(), math.log(1e4)]
    assert found.tolist() == pytest.approx([float(w) for w in wanted], rel=1e-9)
    small = token_log_surprisals(logits.float(), torch.zeros(9, dtype=torch.int64))
    assert small.tolist() == pytest.approx(found.tolist(), rel=1e-5)


def test_large_temperatures_compare_surprisals():
    u, v = (torch.tensor([0.1, 2.0, 30.0], dtype=torch.float64).log() + n for n in (0.0, 0.5))
    p, q = u.exp(), v.exp()
    forward = q - p + p * (p / q).log()
    reverse = p - q + q * (q / p).log()
    found = [chunk_divergence(v, u, 1e6, kind) for kind in ("forward", "reverse")]
    torch.testing.assert_close(found[0], forward, rtol=1e-4, atol=0)
    torch.testing.assert_close(found[1], reverse, rtol=1e-4, atol=0)


def test_positions_in_no_group_count_for_nothing():
    found = chunk_log_likelihoods(
        torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), torch.tensor([-1, 0, 0, -1]), 2
    )
    assert found.exp().tolist() == pytest.approx([0.25, 1.0])


def test_what_does_not_fit_is_said_in_one_line():
    s, t = Outputs(torch.zeros(1, 4, 5)), Outputs(torch.zeros(1, 3, 5))
    ours, theirs = [[0, 0, 1, 2]], [[0, 1, 2]]
    good = {"targets": [[0] * 4], "teacher_targets": [[0] * 3]}
    for objective in (LikelihoodMatching(), UniversalLogit(), VocabularyOverlap()):
        with pytest.raises(ShapeMismatch, match=r"units of \(1, 4\) .* \(1, 3\) .* no groups"):
            objective(s, t, Batch(torch.zeros(1), torch.zeros(1, 4).long()))
        batch = crossed(ours, theirs, **good)
        lacking = dict(batch.inputs)
        del lacking["teacher.group"]
        with pytest.raises(DataError, match=r"has no 'teacher\.group'"):
            objective(s, t, replace(batch, inputs=lacking))
        with pytest.raises(ShapeMismatch, match=r"student\.group has shape \(1, 3\) for units of"):
            objective(s, t, crossed([[0, 1, 2]], theirs, **good))
        with pytest.raises(ShapeMismatch, match="the batch's mask has shape"):
            objective(s, t, replace(batch, mask=torch.ones(1, 3, dtype=torch.bool)))
        with pytest.raises(DataError, match=r"numbered from 0 on .* number 9"):
            objective(s, t, crossed([[0, 0, 1, 9]], theirs, **good))
    wrong = {"teacher.mask": torch.ones(1, 2, dtype=torch.bool)}
    with pytest.raises(ShapeMismatch, match=r"teacher\.mask has shape"):
        UniversalLogit("position")(s, t, crossed(ours, theirs, more=wrong))
    for name, options, said in (
        ("alm", {"groups": "some"}, "groups must be 'all' or 'many'"),
        ("alm", {"missing": "guess"}, "missing must be 'refuse' or 'leave_out'"),
        ("alm", {"divergence": "forwards"}, "Did you mean 'forward'"),
        ("uld", {"by": "word"}, "by must be 'group' or 'position'"),
        ("uld", {"top": 0}, "top must be a whole number"),
        ("overlap", {"at": "last"}, "at must be 'first' or 'one_to_one'"),
        ("overlap", {"temperature": 0}, "temperature must be"),
    ):
        with pytest.raises(RecipeError, match=said):
            build("objective", name, options)
