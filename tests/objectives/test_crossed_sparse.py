"""Teachers that keep some tokens only, or the text's own alone: what works, and what is refused."""

import numpy as np
import pytest
import torch
from objectives_shared import noise

from crossed_samples import crossed
from tutelage.core.errors import DataError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.objectives import (
    LikelihoodMatching,
    UniversalLogit,
    VocabularyOverlap,
    text_answers,
)

OURS, THEIRS = [[0, 0, 1, 2]], [[0, 1, 1, 2, -1]]
TARGETS, THEIR_TARGETS = [[1, 2, 0, 4]], [[3, 0, 5, 2, 1]]
S = torch.from_numpy(2 * noise(1, 4, 6, seed=1))
T = torch.from_numpy(2 * noise(1, 5, 7, seed=2))
BATCH = crossed(OURS, THEIRS, targets=TARGETS, teacher_targets=THEIR_TARGETS)


def kept(k, *, also=None):
    """The k likeliest, or those and the text's own token."""
    log_p = T.log_softmax(-1)
    top = log_p.topk(k, -1).indices
    if also is not None:
        has = (top == also.unsqueeze(-1)).any(-1)
        top[..., -1] = torch.where(has, top[..., -1], also)
    logs = log_p.gather(-1, top)
    return SparseOutputs(logs, top=top, log_tail=torch.log1p(-logs.exp().sum(-1)))


def value(objective, teacher, batch=BATCH):
    (found,) = objective(Outputs(S), teacher, batch).values()
    return found.item()


@pytest.mark.parametrize("kind", ["forward", "reverse", "js"])
def test_likelihoods_need_the_texts_own_tokens_alone(kind):
    made = LikelihoodMatching(divergence=kind)
    wanted = value(made, Outputs(T))
    own = torch.tensor(THEIR_TARGETS)
    assert value(made, kept(3, also=own)) == pytest.approx(wanted, rel=1e-9)
    log_p = T.log_softmax(-1).gather(-1, own.unsqueeze(-1)).squeeze(-1)
    assert value(made, text_answers(log_p, own)) == pytest.approx(wanted, rel=1e-9)


def test_a_text_server_need_not_say_its_vocabulary():
    """Numbers of tokens may be anything, as long as answer and batch have the same."""
    own = torch.tensor(THEIR_TARGETS)
    log_p = T.log_softmax(-1).gather(-1, own.unsqueeze(-1)).squeeze(-1)
    nothing = torch.zeros_like(own)
    batch = crossed(OURS, THEIRS, targets=TARGETS, teacher_targets=nothing.tolist())
    found = value(LikelihoodMatching(), text_answers(log_p, nothing), batch)
    assert found == pytest.approx(value(LikelihoodMatching(), Outputs(T)), rel=1e-9)


def test_tokens_that_were_not_kept_are_refused_or_their_groups_left_out():
    own = torch.tensor(THEIR_TARGETS)
    own[0, 2] = 6  # not the text's: the second of two tokens in group 1
    lacking = kept(1, also=own)
    with pytest.raises(SparseAnswer, match=r"lack 1 of 4: .*missing: leave_out"):
        value(LikelihoodMatching(), lacking)
    found = value(LikelihoodMatching(missing="leave_out"), lacking)
    ours, theirs = [[0, 0, -1, 2]], [[0, -1, -1, 2, -1]]
    fewer = crossed(ours, theirs, targets=TARGETS, teacher_targets=THEIR_TARGETS)
    assert found == pytest.approx(value(LikelihoodMatching(), Outputs(T), fewer), rel=1e-9)


def test_a_teacher_that_is_entirely_sure_stays_finite():
    own = torch.tensor(THEIR_TARGETS)
    for log_p in (0.0, -1e4):
        teacher = text_answers(torch.full((1, 5), log_p), own)
        for kind in ("forward", "reverse", "js"):
            for temperature in (1.0, 100.0):
                z = S.float().requires_grad_()
                made = LikelihoodMatching(temperature, kind)
                (found,) = made(Outputs(z), teacher, BATCH).values()
                (gradient,) = torch.autograd.grad(found, z)
                assert bool(found.isfinite())
                assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("kind", ["forward", "reverse", "js"])
@pytest.mark.parametrize("k", [2, 4])
def test_the_overlap_of_kept_tokens_is_the_overlap_with_fewer_buckets(kind, k):
    """Exact: kept tokens that both have one by one, all else as one, on both sides."""
    tokens = [4, -1, 0, 4, 5, 1, -1]
    teacher = kept(k)
    wanted = 0.0
    p, q = T.softmax(-1)[0].numpy(), S.softmax(-1)[0].numpy()
    for ours, theirs in ((0, 0), (2, 1), (3, 3)):
        masses = {}
        for c in teacher.top[0, theirs].tolist():
            if tokens[c] >= 0:
                masses[tokens[c]] = masses.get(tokens[c], 0) + p[theirs, c]
        a = np.array([*masses.values(), 1 - sum(masses.values())])
        b = np.array([q[ours, c] for c in masses])
        b = np.array([*b, 1 - b.sum()])
        m = (a + b) / 2
        each = {
            "forward": (a * np.log(a / b)).sum(),
            "reverse": (b * np.log(b / a)).sum(),
            "js": ((a * np.log(a / m)).sum() + (b * np.log(b / m)).sum()) / 2,
        }
        wanted += each[kind] / 4
    found = value(VocabularyOverlap(tokens, kind), teacher)
    assert found == pytest.approx(wanted, rel=1e-8)


def test_whole_answers_kept_sparsely_give_the_whole_value():
    tokens = [4, -1, 0, 3, 5, 1, -1]
    log_p, top = T.log_softmax(-1).sort(-1, descending=True)
    teacher = SparseOutputs(log_p, top=top, log_tail=torch.full((1, 5), -torch.inf))
    for made in (VocabularyOverlap(tokens), UniversalLogit(top=7)):
        assert value(made, teacher) == pytest.approx(value(made, Outputs(T)), rel=1e-9)


def test_ranks_of_kept_tokens_and_the_tail():
    made = UniversalLogit(top=3)
    assert value(made, kept(3)) == pytest.approx(value(made, Outputs(T)), rel=1e-9)
    assert value(made, kept(5)) == pytest.approx(value(made, Outputs(T)), rel=1e-9)
    for wrong in (UniversalLogit(), UniversalLogit(top=4), UniversalLogit(top=3, temperature=2.0)):
        with pytest.raises(SparseAnswer, match="keep only 3: set top: 3 and temperature: 1"):
            value(wrong, kept(3))
    with pytest.raises(SparseAnswer, match=r"overlap at temperature 2 needs the logits of all"):
        value(VocabularyOverlap(temperature=2.0), kept(3))


def test_what_does_not_belong_together_is_refused():
    own = torch.tensor(THEIR_TARGETS)
    with pytest.raises(ShapeMismatch, match=r"\(1, 4\) for targets of shape \(1, 5\)"):
        text_answers(torch.zeros(1, 4), own)
    with pytest.raises(DataError, match=r"no 'teacher\.targets': make it"):
        value(LikelihoodMatching(), Outputs(T), crossed(OURS, THEIRS, targets=TARGETS))
    batch = crossed(OURS, THEIRS, targets=TARGETS, teacher_targets=[[0] * 4])
    with pytest.raises(ShapeMismatch, match=r"alm got .* tokens for a teacher's answer of"):
        value(LikelihoodMatching(), text_answers(torch.zeros(1, 5), own), batch)
