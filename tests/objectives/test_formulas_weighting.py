"""Weights of units and wrappers, against sums written out in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from objectives_shared import Array, answer, batch_of, kl, noise, softmax, value

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import names
from tutelage.objectives import (
    CrossEntropy,
    Decoupled,
    Match,
    Only,
    Ramp,
    Reweighted,
    SoftTarget,
    Standardized,
    StandardizedSoftTarget,
)

N, C = 6, 5
S, T = 2 * noise(N, C, seed=1), 3 * noise(N, C, seed=2)
LABELS = np.array([int(T[0].argmax()), 0, int(T[2].argmax()), 1, -1, int(T[5].argmin())])
MASK = np.array([True, False, True, True, True, True])
STUDENT, TEACHER = answer(S), answer(T)


def kd(n: int, temperature: float = 4.0) -> float:
    return temperature**2 * kl(softmax(T[n] / temperature), softmax(S[n] / temperature))


def right(n: int) -> bool:
    return bool(T[n].argmax() == LABELS[n])


def entropy(p: Array) -> float:
    return -sum(x * np.log(x) for x in p)


WEIGHTS: dict[str, tuple[Any, Any]] = {
    "focal": ({"focal": {"alpha": 0.5, "beta": 3.0}}, lambda n: 0.5 + 3.0 * right(n)),
    "teacher_right": ("teacher_right", lambda n: float(right(n))),
    "teacher_sure": (
        {"teacher_sure": {"power": 2.0}},
        lambda n: (1 - entropy(softmax(T[n])) / np.log(C)) ** 2,
    ),
    "teacher_max": ("teacher_max", lambda n: max(softmax(T[n]))),
    "student_unsure": (
        "student_unsure",
        lambda n: 1.0 if LABELS[n] < 0 else (1 - softmax(S[n])[LABELS[n]]) ** 2,
    ),
    "per_sequence": ({"per_sequence": {"length": 2.5}}, lambda n: 2.5),  # one unit an example
    "by_group": (
        {"by_group": {"shares": [0.1, 0.2, 3.0, 4.0, 0.0]}},
        lambda n: 1.0 if LABELS[n] < 0 else [0.1, 0.2, 3.0, 4.0, 0.0][LABELS[n]],
    ),
}


def test_every_registered_weighting_is_compared_here() -> None:
    # That of `settings.on_policy` needs text of its own: tests/settings has it.
    assert set(WEIGHTS) == set(names("weighting")) - {"importance"}


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weighed_mean_over_units(name: str, mask: Array | None) -> None:
    by, weight = WEIGHTS[name]
    rows = [n for n in range(N) if mask is None or mask[n]]
    wanted = sum(weight(n) * kd(n) for n in rows) / len(rows)
    made = Reweighted("kd", by)
    assert value(made, STUDENT, TEACHER, batch_of(N, LABELS, mask=mask)) == pytest.approx(
        wanted, rel=1e-9
    )


def test_groups_may_be_named_inputs() -> None:
    groups = torch.tensor([0, 1, 1, 0, 1, 0])
    made = Reweighted("kd", {"by_group": {"shares": [2.0, 0.5], "groups": "sex"}})
    wanted = sum([2.0, 0.5][int(groups[n])] * kd(n) for n in range(N)) / N
    batch = Batch({"x": torch.zeros(N, 1), "sex": groups})
    assert value(made, STUDENT, TEACHER, batch) == pytest.approx(wanted, rel=1e-9)
    with pytest.raises(DataError, match="no input of that name"):
        made(STUDENT, TEACHER, batch_of(N))


def test_no_gradient_goes_through_the_weights() -> None:
    ours = torch.from_numpy(S).requires_grad_()
    made = Reweighted("kd", "student_unsure")
    student = type(STUDENT)(ours)
    (term,) = made(student, TEACHER, batch_of(N, LABELS)).values()
    found = torch.autograd.grad(term, ours)[0]
    for n in range(N):
        pull = 4.0 * (softmax(S[n] / 4) - softmax(T[n] / 4)) / N
        assert found[n].numpy() == pytest.approx(WEIGHTS["student_unsure"][1](n) * pull, rel=1e-8)


def test_sparse_teachers_are_right_by_their_own_top_class() -> None:
    log_p = torch.from_numpy(T).log_softmax(-1)
    top = log_p.topk(2, dim=-1)
    tail = torch.log1p(-top.values.exp().sum(-1))
    sparse = SparseOutputs(top.values, {}, top=top.indices, log_tail=tail)
    batch = batch_of(N, LABELS)
    made = Reweighted({"kd": {"temperature": 1.0}}, "teacher_right")
    plain = SoftTarget(1.0).values(STUDENT, sparse, batch)
    wanted = sum(float(plain[n]) for n in range(N) if right(n)) / N
    assert value(made, STUDENT, sparse, batch) == pytest.approx(wanted, rel=1e-9)


def test_tokens_and_features_can_be_weighed() -> None:
    made = Reweighted(Match({"f": "f"}, adapter=None), "teacher_right")
    s, t = noise(N, 3, 4, seed=5), noise(N, 3, 4, seed=6)
    ours, theirs = answer(S, {"f": s}), answer(T, {"f": t})
    made.bind(ours, theirs)
    wanted = sum(((s[n] - t[n]) ** 2).mean() for n in range(N) if right(n)) / N
    assert value(made, ours, theirs, batch_of(N, LABELS)) == pytest.approx(wanted, rel=1e-9)


def test_weights_of_examples_never_spread_over_tokens_by_accident() -> None:
    """As many tokens as examples: shapes alone would let them pass."""
    tokens = torch.randn(4, 4, 3, dtype=torch.float64)
    vectors = {"f": torch.randn(4, 6, dtype=torch.float64)}
    student, teacher = Outputs(tokens, vectors), Outputs(tokens.flip(0), vectors)
    match = Match({"f": "f"}, None)
    match.bind(student, teacher)
    mask = torch.ones(4, 4, dtype=torch.bool)
    with pytest.raises(ShapeMismatch, match="reweighted has weights of"):
        Reweighted(match, "teacher_sure")(student, teacher, Batch(torch.zeros(4, 1), mask=mask))


def test_relations_cannot_be_weighed() -> None:
    with pytest.raises(RecipeError, match="inner must be a mean over units"):
        Reweighted("sp")
    with pytest.raises(RecipeError, match="Did you mean 'focal'"):
        Reweighted("kd", "vocal")
    with pytest.raises(RecipeError, match="by must be the name of one weighting"):
        Reweighted("kd", {"focal": {}, "teacher_right": {}})
    with pytest.raises(DataError, match="weights for 2 groups"):
        Reweighted("kd", {"by_group": {"shares": [1.0, 2.0]}})(
            STUDENT, TEACHER, batch_of(N, LABELS)
        )


def test_standardized_kd_is_kd_standardized() -> None:
    batch = batch_of(N, LABELS)
    one = value(Standardized({"kd": {"temperature": 2.0}}), STUDENT, TEACHER, batch)
    assert one == pytest.approx(value(StandardizedSoftTarget(2.0), STUDENT, TEACHER, batch))


def test_standardized_dkd_is_dkd_of_standard_scores() -> None:
    def scores(z: Array) -> Array:
        return np.array([(x - x.mean()) / (1e-7 + x.std(ddof=1)) for x in z])

    batch = batch_of(N, LABELS.clip(min=0))
    one = value(Standardized({"dkd": {"beta": 2.0}}), STUDENT, TEACHER, batch)
    other = value(Decoupled(beta=2.0), answer(scores(S)), answer(scores(T)), batch)
    assert one == pytest.approx(other, rel=1e-12)
    with pytest.raises(ShapeMismatch):
        Standardized("kd")(answer(S[:, :2]), answer(T[:, :2]), batch)


@pytest.mark.parametrize(
    ("shape", "way"),
    [
        ("linear", [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]),
        ("cosine", [(1 - np.cos(np.pi * x)) / 2 for x in (0, 0.25, 0.5, 0.75, 1, 1)]),
        ("sigmoid", [np.exp(-5 * (1 - x) ** 2) for x in (0, 0.25, 0.5, 0.75, 1, 1)]),
    ],
)
def test_a_ramp_goes_from_start_to_end(shape: Any, way: list[float]) -> None:
    made = Ramp("kd", steps=4, start=0.2, end=1.2, shape=shape)
    whole = value(SoftTarget(), STUDENT, TEACHER, batch_of(N))
    for r in way:
        found = value(made, STUDENT, TEACHER, batch_of(N))
        assert found == pytest.approx((0.2 + r) * whole, rel=1e-9)
        made.advance()


def test_a_ramp_goes_on_where_it_was_saved() -> None:
    made = Ramp("kd", steps=4)
    made.advance()
    again = Ramp("kd", steps=4)
    again.load_state_dict(made.state_dict())
    found = value(again, STUDENT, TEACHER, batch_of(N))
    assert found == pytest.approx(value(SoftTarget(), STUDENT, TEACHER, batch_of(N)) / 4)


def test_only_some_variants_are_looked_at() -> None:
    variant = np.array([0, 2, 2, 0, 1, 0])  # of which the mask leaves out a 2
    batch = batch_of(N, LABELS, variant=variant, mask=MASK)
    wanted = np.mean([kd(n) for n in range(N) if MASK[n] and variant[n] in (0, 2)])
    assert value(Only("kd", [0, 2]), STUDENT, TEACHER, batch) == pytest.approx(wanted)
    with pytest.raises(DataError, match="several versions"):
        Only("kd")(STUDENT, TEACHER, batch_of(N))
    with pytest.raises(RecipeError, match="variants must be whole numbers"):
        Only("kd", [])


def test_wrappers_sum_with_others_and_say_what_is_wrong() -> None:
    both = 0.1 * CrossEntropy() + 0.9 * Ramp(Reweighted("kd"), steps=2, start=0.5)
    assert set(both(STUDENT, TEACHER, batch_of(N, LABELS))) == {"ce", "kd"}
    assert both.needs_targets
    with pytest.raises(RecipeError, match="two terms of one objective are called 'kd'"):
        SoftTarget() + Ramp("kd", steps=2)  # type: ignore[unused-ignore]
    with pytest.raises(RecipeError, match="Did you mean 'kd'"):
        Ramp("kdd", steps=2)
    with pytest.raises(RecipeError, match="shape must be"):
        Ramp("kd", steps=2, shape="square")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="inner must be the name"):
        Standardized({"kd": None, "dkd": None})
    with pytest.raises(RecipeError, match="options of 'kd' must be by name"):
        Standardized({"kd": 4})  # type: ignore[dict-item]
