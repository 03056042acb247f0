"""Objectives on embeddings of texts equal their published equations, by plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from hidden_shared import REAL, N, T, text
from objectives_shared import Array, answer, batch_of, kl, noise, softmax, value

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.objectives import (
    EmbeddingMargins,
    EmbedDistill,
    MarginMSE,
    Matryoshka,
    PairwiseCosines,
    RankedSimilarities,
)

B = 6
S, TEACHER = noise(B, 4), noise(B, 4, seed=1)
WIDE = noise(B, 7, seed=2)
MASK = np.array([True, True, False, True, False, True])
MASKS = pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])


def kept(mask: Array | None) -> list[int]:
    return [n for n in range(B) if mask is None or mask[n]]


def cosine(u: Array, v: Array) -> float:
    return float(sum(u * v) / np.sqrt(sum(u**2) * sum(v**2)))


@MASKS
@pytest.mark.parametrize("measure", ["norm", "mse", "cosine"])
def test_embed_distill(mask: Array | None, measure: Any) -> None:
    forms = {
        "norm": lambda u, v: np.sqrt(sum((u - v) ** 2)),
        "mse": lambda u, v: sum((u - v) ** 2) / len(u),
        "cosine": lambda u, v: 1 - cosine(u, v),
    }
    wanted = [forms[measure](S[n], TEACHER[n]) for n in kept(mask)]
    ours, theirs = answer(S), answer(TEACHER)
    objective = EmbedDistill(measure=measure)
    objective.bind(ours, theirs)
    found = value(objective, ours, theirs, batch_of(B, mask=mask))
    assert found == pytest.approx(sum(wanted) / len(wanted), rel=1e-9)


def test_embed_distill_projects_and_pools_real_tokens() -> None:
    states, wide = noise(N, T, 4), noise(N, 7, seed=3)
    ours, theirs = answer(noise(N, 2), {"h": states}), answer(wide)
    objective = EmbedDistill("h", None, "mse", adapter="linear")
    objective.bind(ours, theirs)
    layer = objective.adapters["embedding"]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    wanted = []
    for n in range(N):
        tokens = [states[n, i] for i in range(T) if REAL[n, i]]
        wanted.append(np.mean((weight @ (sum(tokens) / len(tokens)) + bias - wide[n]) ** 2))
    assert value(objective, ours, theirs, text(REAL)) == pytest.approx(np.mean(wanted), rel=1e-9)


@MASKS
def test_pairwise_cosines(mask: Array | None) -> None:
    rows = kept(mask)
    wanted = [(cosine(S[i], S[j]) - cosine(WIDE[i], WIDE[j])) ** 2 for i in rows for j in rows]
    found = value(PairwiseCosines(), answer(S), answer(WIDE), batch_of(B, mask=mask))
    assert found == pytest.approx(sum(wanted) / len(rows) ** 2, rel=1e-9)


@MASKS
@pytest.mark.parametrize("temperatures", [(0.05, None), (0.5, 0.2)])
def test_rank_cse(mask: Array | None, temperatures: Any) -> None:
    rows, (mine, other) = kept(mask), temperatures
    wanted = []
    for i in rows:
        q = softmax(np.array([cosine(S[i], S[j]) / mine for j in rows if j != i]))
        p = softmax(np.array([cosine(WIDE[i], WIDE[j]) / (other or mine) for j in rows if j != i]))
        wanted.append(kl(p, q))
    objective = RankedSimilarities(temperature=mine, teacher_temperature=other)
    found = value(objective, answer(S), answer(WIDE), batch_of(B, mask=mask))
    assert found == pytest.approx(sum(wanted) / len(rows), rel=1e-8)
    assert objective.divergence == (other is None)


@MASKS
def test_margin_mse(mask: Array | None) -> None:
    wanted = []
    for n in kept(mask):
        margins = [(S[n, 0] - S[n, k]) - (TEACHER[n, 0] - TEACHER[n, k]) for k in range(1, 4)]
        wanted.append(sum(m**2 for m in margins) / 3)
    found = value(MarginMSE(), answer(S), answer(TEACHER), batch_of(B, mask=mask))
    assert found == pytest.approx(sum(wanted) / len(wanted), rel=1e-9)


def test_margin_mse_does_not_see_where_scores_begin() -> None:
    shifted = answer(TEACHER + noise(B, 1, seed=5))
    one = value(MarginMSE(), answer(S), answer(TEACHER), batch_of(B))
    assert value(MarginMSE(), answer(S), shifted, batch_of(B)) == pytest.approx(one, rel=1e-9)


IDS = [0, 0, 0, 0, 1, 1, 1, 2, 2]
VARIANTS = [0, 1, 2, 3, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("score", ["dot", "cosine"])
@pytest.mark.parametrize("mask", [None, np.array([1, 1, 1, 0, 1, 1, 1, 1, 1], dtype=bool)])
def test_margin_mse_of_embeddings(mask: Array | None, score: Any) -> None:
    s, t = noise(9, 4), noise(9, 7, seed=1)
    measure = cosine if score == "cosine" else lambda u, v: float(sum(u * v))
    triples = [(0, 1, 2), (0, 1, 3), (4, 5, 6)]  # the third query has one passage alone
    wanted = []
    for q, p, n in triples:
        if mask is None or mask[[q, p, n]].all():
            ours, theirs = (measure(x[q], x[p]) - measure(x[q], x[n]) for x in (s, t))
            wanted.append((ours - theirs) ** 2)
    batch = batch_of(9, ids=IDS, variant=VARIANTS, mask=mask)
    found = value(EmbeddingMargins(score=score), answer(s), answer(t), batch)
    assert found == pytest.approx(sum(wanted) / len(wanted), rel=1e-9)


@pytest.mark.parametrize("cut", ["whole", "cut"])
def test_matryoshka_is_the_inner_objective_of_each_size(cut: Any) -> None:
    objective = Matryoshka("pairwise_cosines", [2, 4], weights=[1.0, 0.5], teacher=cut)
    terms = objective(answer(S), answer(WIDE), batch_of(B))
    assert list(terms) == ["pairwise_cosines_2", "pairwise_cosines_4"]
    for size, weight in ((2, 1.0), (4, 0.5)):
        wide = WIDE[:, :size] if cut == "cut" else WIDE
        errors = [
            (cosine(S[i, :size], S[j, :size]) - cosine(wide[i], wide[j])) ** 2
            for i in range(B)
            for j in range(B)
        ]
        found = float(terms[f"pairwise_cosines_{size}"])
        assert found == pytest.approx(weight * sum(errors) / B**2, rel=1e-9)


def test_matryoshka_has_an_adapter_of_its_own_for_each_size() -> None:
    inner = {"embed_distill": {"student": "h", "adapter": "linear"}}
    objective = Matryoshka(inner, [1, 3, 4])
    ours, theirs = answer(noise(B, 2), {"h": S}), answer(WIDE)
    objective.bind(ours, theirs)
    shapes = [p.shape for name, p in objective.named_parameters() if name.endswith("weight")]
    assert shapes == [(7, 1), (7, 3), (7, 4)]
    assert objective.taps == (["h"], [])
    student = ours.map(lambda t: t.requires_grad_())
    sum(objective(student, theirs, batch_of(B)).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in objective.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": []}, "sizes must be a list of different numbers"),
        ({"sizes": [2, 2]}, "sizes must be a list of different numbers"),
        ({"sizes": [0]}, "sizes must be a whole number of at least 1"),
        ({"sizes": [2], "weights": [1, 2]}, "weights must be one number for each of the 1 pairs"),
        ({"sizes": [2], "teacher": "half"}, "teacher must be whole or cut"),
    ],
)
def test_wrong_sizes_are_refused(options: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=f"matryoshka: {said}"):
        Matryoshka("pairwise_cosines", **options)


def test_more_numbers_than_there_are_is_refused() -> None:
    objective = Matryoshka("pairwise_cosines", [5])
    with pytest.raises(ShapeMismatch, match=r"the first 5 numbers of \(6, 4\)"):
        objective(answer(S), answer(WIDE), batch_of(B))


def test_one_text_relates_to_nothing() -> None:
    one = Outputs(torch.randn(1, 4, requires_grad=True)), Outputs(torch.randn(1, 4))
    for objective in (PairwiseCosines(), RankedSimilarities()):
        (term,) = objective(*one, Batch(torch.zeros(1, 1))).values()
        assert abs(float(term.detach())) < 1e-12


def test_a_pooling_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="embed_distill: pool must be mean or first or last"):
        EmbedDistill("h", pool="max")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="student and teacher are named by feature"):
        PairwiseCosines(3)  # type: ignore[arg-type]
