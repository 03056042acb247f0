"""Losses on logits of texts ``(N, T, V)``, token by token in numpy, of answer tokens alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from objectives_shared import Array, kl, noise, softmax
from sparse_samples import adaptive, alpha_beta, js
from torch import Tensor

import tutelage.objectives as o
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError
from tutelage.core.outputs import Outputs
from tutelage.objectives import AbstractObjective

N, L, V = 3, 5, 7
S, T = 2 * noise(N, L, V, seed=1), 3 * noise(N, L, V, seed=2)
MASK = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], dtype=bool)
TARGETS = np.where(MASK, np.random.default_rng(0).integers(0, V, (N, L)), -1)

WORDS: dict[str, tuple[AbstractObjective, Callable[[Array, Array], float]]] = {
    "kd": (o.SoftTarget(1.0), kl),
    "reverse_kl": (o.ReverseKL(), lambda p, q: kl(q, p)),
    "js": (o.JensenShannon(0.3), lambda p, q: js(p, q, 0.3)),
    "skew_kl": (o.SkewKL(0.2), lambda p, q: kl(p, 0.2 * p + 0.8 * q)),
    "skew_reverse_kl": (o.SkewReverseKL(0.2), lambda p, q: kl(q, 0.2 * q + 0.8 * p)),
    "alpha_beta": (o.AlphaBeta(0.7, 0.4, 1.0), lambda p, q: alpha_beta(p, q, 0.7, 0.4)),
    "tvd": (o.TotalVariation(), lambda p, q: float(abs(p - q).sum() / 2)),
    "adaptive_kl": (o.AdaptiveKL(), lambda p, q: adaptive(p, q, V)),
}


def tensor(values: Array) -> Tensor:
    return torch.from_numpy(values)


def tokens(mask: Array | None = MASK) -> Batch:
    inputs = {"input_ids": torch.zeros(N, L, dtype=torch.int64)}
    counted = None if mask is None else tensor(mask)
    return Batch(inputs, tensor(TARGETS), counted, torch.arange(N))


def total(objective: AbstractObjective, batch: Batch) -> float:
    terms = objective(Outputs(tensor(S)), Outputs(tensor(T)), batch)
    return float(sum(terms.values()))


@pytest.mark.parametrize("name", WORDS)
def test_the_mean_is_over_answer_tokens_alone(name: str) -> None:
    objective, equation = WORDS[name]
    each = [
        equation(softmax(T[n, t]), softmax(S[n, t]))
        for n in range(N)
        for t in range(L)
        if MASK[n, t]
    ]
    assert total(objective, tokens()) == pytest.approx(sum(each) / len(each), rel=1e-9)
    assert total(objective, tokens(np.zeros((N, L), bool))) == 0


def test_sequence_level_distillation_is_cross_entropy_on_what_the_teacher_wrote() -> None:
    """Kim and Rush 2016: the targets are the teacher's text, so no teacher is asked."""
    each = [
        -np.log(softmax(S[n, t])[TARGETS[n, t]]) for n, t in zip(*np.nonzero(MASK), strict=True)
    ]
    assert total(o.CrossEntropy(), tokens()) == pytest.approx(sum(each) / len(each))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("head", [0.3, 0.5, 0.9])
def test_adaptive_kl_is_the_papers_sum(head: float, temperature: float) -> None:
    """The cumulated mass of the authors' code: inside while at most mu, the first always."""
    for n in range(N):
        p, q = softmax(T[n, 0] / temperature), softmax(S[n, 0] / temperature)
        order = np.argsort(-p)
        inside = np.cumsum(p[order]) <= head
        inside[0] = True
        errors = abs(p - q)[order]
        share = errors[inside].sum() / errors.sum()
        wanted = temperature**2 * (share * kl(p, q) + (1 - share) * kl(q, p))
        found = o.adaptive_kl(tensor(S[n, :1]), tensor(T[n, :1]), head, temperature)
        assert found.item() == pytest.approx(wanted, rel=1e-9)


def test_adaptive_kl_finds_its_head_among_many_classes_too() -> None:
    """More than the 64 that are looked at first, flat and peaked."""
    for scale in (0.01, 0.1, 4.0):
        t, s = scale * noise(4, 500, seed=3), noise(4, 500, seed=4)
        wanted = [adaptive(softmax(t[n]), softmax(s[n]), 500) for n in range(4)]
        np.testing.assert_allclose(o.adaptive_kl(tensor(s), tensor(t)).numpy(), wanted, rtol=1e-9)
    with pytest.raises(RecipeError, match="head must be between 0 and 1"):
        o.AdaptiveKL(1.0)


# -- each sequence counts the same ---------------------------------------------------------------


def per_sequence(inner: str = "reverse_kl", length: float = 2.5) -> AbstractObjective:
    return o.Reweighted(inner, by={"per_sequence": {"length": length}})


def test_per_sequence_is_a_mean_of_each_sequences_own_mean() -> None:
    """Four tokens and one: by tokens the first counts 4 to 1, by sequences 1 to 1."""
    means = []
    for n in (0, 1):
        there = np.nonzero(MASK[n])[0]
        means.append(sum(kl(softmax(S[n, t]), softmax(T[n, t])) for t in there) / len(there))
    # Five tokens of two sequences are 2.5 each on average: the scale is that of the mean.
    assert total(per_sequence(), tokens()) == pytest.approx(sum(means) / 2, rel=1e-6)
    by_tokens = total(o.ReverseKL(), tokens())
    assert by_tokens == pytest.approx((4 * means[0] + means[1]) / 5, rel=1e-6)
    assert total(per_sequence(length=L), tokens(None)) == pytest.approx(
        total(o.ReverseKL(), tokens(None))
    )


def test_per_sequence_adds_up_over_uneven_parts() -> None:
    batch, ours, theirs = tokens(), Outputs(tensor(S)), Outputs(tensor(T))
    whole, parts = total(per_sequence(), batch), 0.0
    for n in range(N):
        rows = slice(n, n + 1)
        part = batch[rows]
        one = per_sequence()(Outputs(ours.logits[rows]), Outputs(theirs.logits[rows]), part)
        parts += float(one["reverse_kl"]) * part.count / batch.count
    assert parts == pytest.approx(whole, rel=1e-6)


def test_per_sequence_refuses_what_has_no_tokens() -> None:
    with pytest.raises(DataError, match="weighs the tokens of sequences"):
        total(per_sequence(), tokens(np.ones(N, bool)))
    with pytest.raises(RecipeError, match="length must be a finite number greater than 0"):
        per_sequence(length=0)
