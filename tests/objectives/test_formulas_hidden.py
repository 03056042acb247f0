"""Objectives on hidden states equal their published equations, by plain loops."""

from typing import Any

import numpy as np
import pytest
from hidden_shared import SEEN, N, T, mean_over_units, sees, text
from objectives_shared import Array, answer, kl, noise, softmax, value

from tutelage.objectives import (
    AbstractObjective,
    AttentionScores,
    DistilBERTCosine,
    MobileBERT,
    PatientStates,
    TinyBERT,
    TinyBERTStates,
)

LOGITS, OTHERS = 2 * noise(N, 4), 2 * noise(N, 4, seed=9)
CASES = pytest.mark.parametrize("case", SEEN)
UNITS = pytest.mark.parametrize("units", ["counted", "real"])


def states(*paths: str, width: int, seed: int) -> dict[str, Array]:
    return {path: noise(N, T, width, seed=seed + i) for i, path in enumerate(paths)}


def found(
    objective: AbstractObjective, s: dict[str, Array], t: dict[str, Array], case: str
) -> float:
    ours, theirs = answer(LOGITS, s), answer(OTHERS, t)
    objective.bind(ours, theirs)
    return value(objective, ours, theirs, text(*SEEN[case]))


def projected(objective: Any, x: Array, key: str) -> Array:
    """The student's states through the matrix of a pair."""
    layer = objective.adapters[key]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.array([[weight @ token + bias for token in row] for row in x])


def squares(s: Array, t: Array) -> Array:
    return np.array(
        [[sum((s[n, i] - t[n, i]) ** 2) / s.shape[-1] for i in range(T)] for n in range(N)]
    )


@CASES
@UNITS
def test_tinybert_states(case: str, units: Any) -> None:
    s, t = states("a", "b", width=3, seed=1), states("x", "y", width=4, seed=5)
    objective = TinyBERTStates({"a": "x", "b": "y"}, weights=[0.5, 2.0], units=units)
    got = found(objective, s, t, case)
    assert list(objective.adapters) == ["a>x"]  # one matrix for both
    wanted = 0.5 * squares(projected(objective, s["a"], "a>x"), t["x"])
    wanted = wanted + 2 * squares(projected(objective, s["b"], "a>x"), t["y"])
    assert got == pytest.approx(mean_over_units(wanted, *SEEN[case], units), rel=1e-9)


@CASES
def test_distilbert_cosine(case: str) -> None:
    s, t = states("a", width=4, seed=1)["a"], states("x", width=4, seed=5)["x"]
    wanted = np.array(
        [
            [
                1 - sum(s[n, i] * t[n, i]) / np.sqrt(sum(s[n, i] ** 2) * sum(t[n, i] ** 2))
                for i in range(T)
            ]
            for n in range(N)
        ]
    )
    objective = DistilBERTCosine({"a": "x"}, adapter=None)
    got = found(objective, {"a": s}, {"x": t}, case)
    assert got == pytest.approx(mean_over_units(wanted, *SEEN[case]), rel=1e-9)


@CASES
@pytest.mark.parametrize("token", ["first", "last", "mean"])
def test_patient_kd(case: str, token: Any) -> None:
    s, t = states("a", width=4, seed=1)["a"], states("x", width=4, seed=5)["x"]
    real, mask = SEEN[case]
    wanted = np.zeros((N, T))
    for n in range(N):
        tokens = [i for i in range(T) if real is None or real[n, i]]
        chosen = {"first": tokens[:1], "last": tokens[-1:], "mean": tokens}[token]
        u, v = (sum(x[n, i] for i in chosen) / len(chosen) for x in (s, t))
        u, v = u / np.sqrt(sum(u**2)), v / np.sqrt(sum(v**2))
        wanted[n] = sum((u - v) ** 2)
    objective = PatientStates({"a": "x"}, token=token)
    got = found(objective, {"a": s}, {"x": t}, case)
    assert got == pytest.approx(mean_over_units(wanted, real, mask), rel=1e-9)


def score(q: Array, k: Array, n: int, i: int, j: int, head: int, group: int, size: int) -> float:
    one, other = q[n, i, head * size :][:size], k[n, j, group * size :][:size]
    return float(sum(one * other) / np.sqrt(size))


def scores_apart(
    s: dict[str, Array], t: dict[str, Array], real: Any, *, causal: bool, mean: bool = False
) -> Array:
    """Four query heads, two key heads; the student's of size 3, the teacher's of size 2."""
    wanted = np.zeros((N, T))
    for n in range(N):
        for i in range(T):
            keys = sees(n, i, real, causal=causal)
            errors = []
            for j in keys:
                gaps = [
                    score(s["q"], s["k"], n, i, j, h, h // 2, 3)
                    - score(t["q"], t["k"], n, i, j, h, h // 2, 2)
                    for h in range(4)
                ]
                gaps = [sum(gaps) / 4] if mean else gaps
                errors.append(sum(gap**2 for gap in gaps) / len(gaps))
            wanted[n, i] = sum(errors) / len(errors) if errors else 0
    return wanted


def queries_and_keys(size: int, seed: int) -> dict[str, Array]:
    return {"q": noise(N, T, 4 * size, seed=seed), "k": noise(N, T, 2 * size, seed=seed + 1)}


Q, K = {"q": "q"}, {"k": "k"}


@CASES
@UNITS
@pytest.mark.parametrize("causal", [False, True])
def test_tinybert_attention_with_grouped_heads(case: str, units: Any, causal: bool) -> None:
    s, t = queries_and_keys(3, 1), queries_and_keys(2, 5)
    wanted = scores_apart(s, t, SEEN[case][0], causal=causal)
    objective = AttentionScores(4, Q, K, key_heads=2, causal=causal, units=units)
    got = found(objective, s, t, case)
    assert got == pytest.approx(mean_over_units(wanted, *SEEN[case], units), rel=1e-9)


@CASES
def test_tinybert_attention_of_heads_that_meet_as_their_mean(case: str) -> None:
    s, t = queries_and_keys(3, 1), queries_and_keys(2, 5)
    wanted = scores_apart(s, t, SEEN[case][0], causal=False, mean=True)
    objective = AttentionScores(4, Q, K, key_heads=2, meet="mean")
    got = found(objective, s, t, case)
    assert got == pytest.approx(mean_over_units(wanted, *SEEN[case]), rel=1e-9)


@pytest.mark.parametrize("case", ["all", "padded", "examples"])
def test_tinybert_is_the_sum_of_its_four_parts(case: str) -> None:
    real, mask = SEEN[case]
    s = queries_and_keys(3, 1) | states("e", "a", width=3, seed=11)
    t = queries_and_keys(2, 5) | states("f", "x", width=4, seed=21)
    objective = TinyBERT({"e": "f", "a": "x"}, Q, K, heads=4, key_heads=2, temperature=2.0)
    got = found(objective, s, t, case)
    inner = objective.inner.parts[0]
    wanted = scores_apart(s, t, real, causal=False)
    for ours, theirs in (("e", "f"), ("a", "x")):
        wanted = wanted + squares(projected(inner, s[ours], "e>f"), t[theirs])
    answers = [
        4 * kl(softmax(OTHERS[n] / 2), softmax(LOGITS[n] / 2))
        for n in range(N)
        if mask is None or mask[n]
    ]
    total = mean_over_units(wanted, real, mask) + sum(answers) / len(answers)
    assert got == pytest.approx(total, rel=1e-9)


@CASES
def test_mobilebert(case: str) -> None:
    real, mask = SEEN[case]
    s = queries_and_keys(3, 1) | states("a", width=4, seed=11)
    t = queries_and_keys(2, 5) | states("x", width=4, seed=21)
    wanted = squares(s["a"], t["x"])
    for n in range(N):
        for i in range(T):
            keys = sees(n, i, real)
            for h in range(4 if keys else 0):
                ours, theirs = (
                    softmax(
                        np.array([score(x["q"], x["k"], n, i, j, h, h // 2, size) for j in keys])
                    )
                    for x, size in ((s, 3), (t, 2))
                )
                wanted[n, i] += kl(theirs, ours) / 4
    objective = MobileBERT({"a": "x"}, Q, K, heads=4, key_heads=2)
    got = found(objective, s, t, case)
    assert got == pytest.approx(mean_over_units(wanted, real, mask), rel=1e-9)
