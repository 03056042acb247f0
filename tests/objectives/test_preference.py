"""Whole answers, in numpy and by plain loops; options, naive forms, what is refused."""

from collections import defaultdict
from functools import partial

import numpy as np
import pytest
import torch
from benchmarks.naive.preference import NAIVE

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import build
from tutelage.objectives import (
    DPO,
    ChosenAnswer,
    ContrastiveSkew,
    RankedAnswers,
    SimPO,
    sequence_log_probs,
)
from tutelage.testing import default_probe, objective_contracts

V, T = 6, 5


def answers(questions=3, several=3, seed=0):
    """Rows in no order; answers of 0 to 5 tokens, one question with an empty one."""
    source = torch.Generator().manual_seed(seed)
    rows = questions * several
    order = torch.randperm(rows, generator=source)
    ids = torch.arange(rows) // several
    variant = torch.arange(rows) % several
    targets = torch.randint(0, V, (rows, T), generator=source)
    lengths = torch.randint(1, T + 1, (rows,), generator=source)
    lengths[1] = 0
    place = torch.arange(T)
    mask = (place >= T - lengths[:, None]) & (place < T)
    batch = Batch(
        {"input_ids": torch.zeros(rows, T).long()},
        targets.masked_fill(~mask, -1)[order],
        mask[order],
        ids[order],
        variant=variant[order],
    )
    student, teacher = (
        Outputs(2 * torch.randn(rows, T, V, generator=source).double()) for _ in range(2)
    )
    return student, teacher, batch


def said(outputs, batch, per_token):
    """Log-probability by question and variant, of answers with at least one token."""
    found = defaultdict(dict)
    for row in range(len(batch.ids)):
        z = outputs.logits[row].numpy()
        total, count = 0.0, 0
        for t in range(T):
            if batch.mask[row, t]:
                total += z[t, batch.targets[row, t]] - np.log(np.exp(z[t]).sum())
                count += 1
        if count:
            key = int(batch.ids[row])
            found[key][int(batch.variant[row])] = total / count if per_token else total
    return found


def gaps(student, teacher, batch, per_token=False):
    now, before = said(student, batch, per_token), said(teacher, batch, per_token)
    for question, ours in now.items():
        theirs = before[question]
        for v in ours:
            if v > 0 and 0 in ours:
                yield (ours[0] - theirs[0]) - (ours[v] - theirs[v])


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize(
    ("form", "formula"),
    [
        ("sigmoid", lambda h, b: np.log1p(np.exp(-b * h))),
        ("ipo", lambda h, b: (h - 1 / (2 * b)) ** 2),
        ("hinge", lambda h, b: max(0.0, 1 - b * h)),
    ],
)
def test_dpo(form, formula, per_token):
    student, teacher, batch = answers()
    found = DPO(beta=0.3, form=form, per_token=per_token)(student, teacher, batch)["dpo"]
    wanted = [formula(h, 0.3) for h in gaps(student, teacher, batch, per_token)]
    assert len(wanted) == 5  # one answer is empty
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-9)


def test_dpo_pulls_by_how_wrong_it_is():
    student, teacher, batch = answers()
    leaf = student.logits.clone().requires_grad_()
    loss = DPO(beta=0.3)(Outputs(leaf), teacher, batch)["dpo"]
    [slope] = torch.autograd.grad(loss, leaf)
    assert slope[~batch.mask].abs().max() == 0
    pulls = [0.3 / (1 + np.exp(0.3 * h)) / 5 for h in gaps(student, teacher, batch)]
    chosen = (batch.variant == 0) & (batch.ids == 2)
    [row] = chosen.nonzero()[:, 0].tolist()
    t = batch.mask[row].int().argmax()
    q = student.logits[row, t].softmax(-1)
    q[batch.targets[row, t]] -= 1  # gradient of -log q
    order = [int(i) for i in dict.fromkeys(batch.ids.tolist())]
    both = dict.fromkeys(order, 0.0)
    each = iter(pulls)
    for question, ours in said(student, batch, False).items():
        for v in ours:
            if v > 0:
                both[question] += next(each)
    torch.testing.assert_close(slope[row, t], both[2] * q)


def test_simpo():
    student, teacher, batch = answers()
    found = SimPO(beta=2.5, gamma=0.7)(student, teacher, batch)["simpo"]
    scores = said(student, batch, True)
    wanted = [
        np.log1p(np.exp(-(2.5 * (ours[0] - ours[v]) - 0.7)))
        for ours in scores.values()
        for v in ours
        if v > 0 and 0 in ours
    ]
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-9)


def test_chosen_answers_weigh_alike_however_long_they_are():
    student, teacher, batch = answers()
    scores = said(student, batch, True)
    wanted = -np.mean([ours[0] for ours in scores.values() if 0 in ours])
    found = ChosenAnswer()(student, teacher, batch)["chosen_answer"]
    assert float(found) == pytest.approx(wanted, rel=1e-9)


def plackett_luce(ours, theirs):
    order = sorted(theirs, key=lambda v: -theirs[v])
    for i in range(len(order) - 1):
        rest = sum(np.exp(ours[v]) for v in order[i:])
        yield np.log(rest) - ours[order[i]]


def every_pair(ours, theirs):
    for v in theirs:
        for w in theirs:
            if theirs[v] > theirs[w]:
                yield np.log1p(np.exp(-(ours[v] - ours[w])))


def soft(ours, theirs):
    p, q = (
        {v: np.exp(s) / sum(np.exp(x) for x in scores.values()) for v, s in scores.items()}
        for scores in (theirs, ours)
    )
    value = sum(p[v] * np.log(p[v] / q[v]) for v in p)
    yield from [value] * len(p)


@pytest.mark.parametrize(
    ("by", "formula"), [("list", plackett_luce), ("pairs", every_pair), ("soft", soft)]
)
def test_ranked_answers(by, formula):
    student, teacher, batch = answers()
    found = RankedAnswers(by, beta=1.7)(student, teacher, batch)["ranked_answers"]
    scores = [
        {k: {v: 1.7 * s for v, s in row.items()} for k, row in said(each, batch, True).items()}
        for each in (student, teacher)
    ]
    wanted = [value for k in scores[0] for value in formula(scores[0][k], scores[1][k])]
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-9)


def test_contrastive_skew():
    student, teacher, batch = answers()
    found = ContrastiveSkew(alpha=0.2, beta=0.3)(student, teacher, batch)["contrastive_skew"]
    values = []
    for row, t in batch.mask.nonzero().tolist():
        q, p = (each.logits[row, t].softmax(-1).numpy() for each in (student, teacher))
        if batch.variant[row] == 0:
            m = 0.2 * p + 0.8 * q
            values.append(2 * 0.7 * sum(a * np.log(a / b) for a, b in zip(p, m, strict=True)))
        else:
            m = 0.2 * q + 0.8 * p
            values.append(2 * 0.3 * sum(a * np.log(a / b) for a, b in zip(q, m, strict=True)))
    assert float(found) == pytest.approx(np.mean(values), rel=1e-9)


def test_long_answers_in_half_precision_are_added_up_in_single():
    logits = torch.randn(2, 4000, V, generator=torch.Generator().manual_seed(0)).half()
    targets = torch.zeros(2, 4000).long()
    found = sequence_log_probs(logits, targets)
    wanted = sequence_log_probs(logits.double(), targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)


def test_empty_answers__make_no_pair_and_no_nan():
    student, teacher, batch = answers()
    nothing = Batch(
        batch.inputs, torch.full_like(batch.targets, -1), None, batch.ids, variant=batch.variant
    )
    for make in (DPO, SimPO, ChosenAnswer, RankedAnswers, partial(RankedAnswers, "soft")):
        leaf = student.logits.clone().requires_grad_()
        [value] = make()(Outputs(leaf), teacher, nothing).values()
        assert value.item() == 0
        assert torch.autograd.grad(value, leaf)[0].abs().max() == 0


@pytest.mark.parametrize("name", NAIVE)
def test_naive_forms_have_the_same_value(name):
    objective = build("objective", name)
    probe = default_probe(lambda: build("objective", name))
    [found] = objective(probe.student, probe.teacher, probe.batch).values()
    naive = NAIVE[name](probe.student, probe.teacher, probe.batch, objective)
    assert float(found) > 0
    assert float(naive) == pytest.approx(float(found), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {"form": "ipo"}),
        ("dpo", {"form": "hinge", "per_token": True}),
        ("simpo", {"gamma": 0.0}),
        ("ranked_answers", {"by": "pairs"}),
        ("ranked_answers", {"by": "soft", "beta": 3.0}),
        ("contrastive_skew", {"alpha": 0.5, "beta": 0.2}),
    ],
)
def test_other_options_keep_every_contract(name, options):
    for contract in objective_contracts(lambda: build("objective", name, options)).values():
        contract()


def test_what_cannot_be_compared_is_refused_in_one_line():
    student, teacher, batch = answers()
    bare = Batch(batch.inputs, batch.targets, batch.mask, batch.ids)
    sparse = SparseOutputs(
        teacher.logits[..., :2], top=torch.zeros(9, T, 2).long(), log_tail=teacher.logits[..., 0]
    )
    odd = Batch(batch.inputs, batch.targets, batch.mask[:, :2], batch.ids, variant=batch.variant)
    for attempt, kind, said_so in (
        (lambda: DPO()(student, teacher, bare), DataError, "variant 0 is the best answer"),
        (lambda: DPO()(student, sparse, batch), SparseAnswer, "all classes"),
        (lambda: DPO()(student, teacher, odd), ShapeMismatch, "one entry a token or a row"),
        (
            lambda: DPO()(student, Outputs(teacher.logits[:, :2]), batch),
            ShapeMismatch,
            "let both models read the same tokens",
        ),
        (lambda: DPO(form="kto"), RecipeError, "knows no form 'kto'"),
        (lambda: DPO(beta=0), RecipeError, "beta must be"),
        (lambda: SimPO(gamma=-1), RecipeError, "gamma must be"),
        (lambda: RankedAnswers("size"), RecipeError, "knows no by 'size'"),
        (lambda: ContrastiveSkew(beta=1.5), RecipeError, "beta at most 1"),
    ):
        with pytest.raises(kind, match=said_so) as no:
            attempt()
        assert "\n" not in str(no.value)
