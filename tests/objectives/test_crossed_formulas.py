"""What is compared across tokenizers, against sums written out in numpy by plain loops."""

import numpy as np
import pytest
import torch
from benchmarks.naive import crossed as naive
from objectives_shared import Array, noise, softmax

from crossed_samples import crossed
from tutelage.core.outputs import Outputs
from tutelage.objectives import (
    LikelihoodMatching,
    UniversalLogit,
    VocabularyOverlap,
    universal_logit,
)
from tutelage.testing import default_probe, registered_objective

# Two rows; the student has 7 classes and 6 positions, the teacher 5 and 5.
OURS = [[0, 0, 1, -1, 2, 3], [-1, 0, 1, 1, 1, -1]]
THEIRS = [[0, 1, 1, 2, 3], [0, 0, 1, -1, -1]]
TARGETS = [[3, 0, 6, 1, 2, 5], [4, 4, 0, 2, 1, 3]]
THEIR_TARGETS = [[1, 4, 0, 2, 3], [0, 0, 3, 2, 1]]
S, T = 2 * noise(2, 6, 7, seed=1), 2 * noise(2, 5, 5, seed=2)
MASK = [[True, True, True, True, False, True], [True, True, True, True, True, False]]
TOKENS = [4, -1, 0, 4, 6]  # the teacher's 0 and 3 are both the student's 4


def batch_of(mask=None):
    return crossed(OURS, THEIRS, targets=TARGETS, teacher_targets=THEIR_TARGETS, mask=mask)


def groups(mask):
    """Of each row the groups that count: their positions of both sides."""
    found = []
    for row in range(2):
        for number in range(4):
            ours = [t for t in range(6) if OURS[row][t] == number]
            theirs = [t for t in range(5) if THEIRS[row][t] == number]
            if ours and theirs and (mask is None or all(mask[row][t] for t in ours)):
                found.append((row, ours, theirs))
    return found


def units(mask):
    return 12 if mask is None else sum(map(sum, mask))


def divergence(p: Array, q: Array, kind: str) -> float:
    def kl(a, b):
        return float(sum(a[c] * np.log(a[c] / b[c]) for c in range(len(a)) if a[c] > 0))

    if kind == "js":
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return (kl(p, m) + kl(q, m)) / 2
    return kl(p, q) if kind == "forward" else kl(q, p)


def told(objective, batch):
    (value,) = objective(Outputs(torch.from_numpy(S)), Outputs(torch.from_numpy(T)), batch).values()
    return float(value)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("temperature", [1.0, 100.0])
@pytest.mark.parametrize("kind", ["forward", "reverse", "js"])
@pytest.mark.parametrize("which", ["all", "many"])
def test_likelihoods_of_groups(mask, temperature, kind, which):
    wanted = 0.0
    for row, ours, theirs in groups(mask):
        if which == "many" and len(ours) == len(theirs) == 1:
            continue
        q = np.prod([softmax(S[row, t])[TARGETS[row][t]] for t in ours]) ** (1 / temperature)
        p = np.prod([softmax(T[row, t])[THEIR_TARGETS[row][t]] for t in theirs]) ** (
            1 / temperature
        )
        wanted += temperature * divergence([p, 1 - p], [q, 1 - q], kind)
    found = told(LikelihoodMatching(temperature, kind, which), batch_of(mask))
    assert found == pytest.approx(wanted / units(mask), rel=1e-9)


def by_rank(p: Array, q: Array, top: int | None = None) -> float:
    size = max(len(p), len(q))
    p, q = (sorted([*x, *[0.0] * (size - len(x))], reverse=True) for x in (p, q))
    top = size if top is None else top
    value = sum(abs(p[i] - q[i]) for i in range(min(top, size)))
    return value + abs(sum(p[top:]) - sum(q[top:]))


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("top", [None, 2, 6])
def test_ranks_where_groups_begin(mask, temperature, top):
    wanted = sum(
        by_rank(
            softmax(T[row, theirs[0]] / temperature), softmax(S[row, ours[0]] / temperature), top
        )
        for row, ours, theirs in groups(mask)
    )
    found = told(UniversalLogit("group", temperature, top), batch_of(mask))
    assert found == pytest.approx(wanted / units(mask), rel=1e-9)


def test_ranks_position_by_position_up_to_the_shorter():
    """As in the paper: the k-th answer token with the k-th, what one has more of left out."""
    their_mask = [[False, True, True, True, True], [True, False, False, True, False]]
    batch = crossed(OURS, THEIRS, mask=MASK, more={"teacher.mask": torch.tensor(their_mask)})
    wanted = 0.0
    for row in range(2):
        ours = [t for t in range(6) if MASK[row][t]]
        theirs = [t for t in range(5) if their_mask[row][t]]
        for a, b in zip(ours, theirs, strict=False):
            wanted += by_rank(softmax(T[row, b]), softmax(S[row, a]))
    found = told(UniversalLogit("position"), batch)
    assert found == pytest.approx(wanted / units(MASK), rel=1e-9)


def test_fewer_ranks_are_never_more_than_all():
    ours, theirs = torch.from_numpy(3 * S[0]), torch.from_numpy(3 * S[1])
    whole = universal_logit(ours, theirs)
    for top in range(1, 8):
        assert bool((universal_logit(ours, theirs, top=top) <= whole + 1e-12).all())
    assert universal_logit(ours, theirs, top=7).tolist() == whole.tolist()


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kind", ["forward", "reverse", "js"])
@pytest.mark.parametrize("at", ["first", "one_to_one"])
def test_buckets_of_the_overlap(mask, temperature, kind, at):
    wanted = 0.0
    for row, ours, theirs in groups(mask):
        if at == "one_to_one" and len(ours) + len(theirs) > 2:
            continue
        q, p = softmax(S[row, ours[0]] / temperature), softmax(T[row, theirs[0]] / temperature)
        kept = [0, 4, 6]
        q_in = [q[c] for c in kept]
        p_in = [sum(p[c] for c in range(5) if TOKENS[c] == k) for k in kept]
        rest = sum(p[c] for c in range(5) if TOKENS[c] < 0), sum(q[c] for c in (1, 2, 3, 5))
        wanted += temperature**2 * divergence([*p_in, rest[0]], [*q_in, rest[1]], kind)
    found = told(VocabularyOverlap(TOKENS, kind, temperature, at), batch_of(mask))
    assert found == pytest.approx(wanted / units(mask), rel=1e-9)


def test_classes_that_fill_heads_up_take_no_part():
    """Beyond the map the teacher's, beyond the vocabulary the student's: as if they were not."""
    padded = np.concatenate([T, 9 + 0 * T[..., :2]], axis=-1)
    more = np.concatenate([S, 9 + 0 * S[..., :2]], axis=-1)
    made = VocabularyOverlap(TOKENS, vocabulary=7)
    answers = Outputs(torch.from_numpy(more)), Outputs(torch.from_numpy(padded))
    (found,) = made(*answers, batch_of()).values()
    assert float(found) == pytest.approx(told(VocabularyOverlap(TOKENS), batch_of()), rel=1e-12)


@pytest.mark.parametrize("name", naive.NAIVE)
def test_naive_forms_have_the_same_value(name):
    probe, objective = default_probe(registered_objective(name)), registered_objective(name)()
    (found,) = objective(probe.student, probe.teacher, probe.batch).values()
    wanted = naive.NAIVE[name](probe.student, probe.teacher, probe.batch, objective)
    assert float(found) > 0
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
