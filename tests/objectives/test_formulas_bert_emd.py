"""BERT-EMD equals its published equations: costs, plan, and how weights move."""

from typing import Any

import numpy as np
import pytest
import torch
from hidden_shared import SEEN, N, T, mean_over_units, sees, text
from objectives_shared import Array, answer, noise, value
from scipy.optimize import linprog

from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.objectives import BertEMD
from tutelage.testing import Probe, objective_contracts

S, L, HEADS = 2, 3, 2
LOGITS = noise(N, 4)
STATES, QUERIES, KEYS = {"h*": "x*"}, {"q*": "q*"}, {"k*": "k*"}


def answers(scale: float = 1.0) -> tuple[dict[str, Array], dict[str, Array]]:
    ours, theirs = {}, {}
    for i in range(S):
        ours |= {f"h{i}": noise(N, T, 3, seed=i)}
        ours |= {f"{k}{i}": scale * noise(N, T, 4, seed=20 + 2 * i + (k == "k")) for k in "qk"}
    for j in range(L):
        theirs |= {f"x{j}": (1 + j) * noise(N, T, 5, seed=50 + j)}
        theirs |= {f"{k}{j}": scale * noise(N, T, 6, seed=70 + 2 * j + (k == "k")) for k in "qk"}
    return ours, theirs


def state_cost(objective: BertEMD, s: Array, t: Array, case: str) -> float:
    layer = objective.adapters["all"]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    values = np.array(
        [[np.mean((weight @ s[n, i] + bias - t[n, i]) ** 2) for i in range(T)] for n in range(N)]
    )
    return mean_over_units(values, *SEEN[case])


def score_cost(s: dict[str, Array], t: dict[str, Array], i: int, j: int, case: str) -> float:
    values = np.zeros((N, T))
    for n in range(N):
        for a in range(T):
            errors = []
            for b in sees(n, a, SEEN[case][0]):
                for h in range(HEADS):
                    one, other = (
                        sum(
                            x[f"q{layer}"][n, a, h * d : (h + 1) * d]
                            * x[f"k{layer}"][n, b, h * d : (h + 1) * d]
                        )
                        / np.sqrt(d)
                        for x, layer, d in ((s, i, 2), (t, j, 3))
                    )
                    errors.append((one - other) ** 2)
            values[n, a] = sum(errors) / len(errors) if errors else 0
    return mean_over_units(values, *SEEN[case])


def cheapest(costs: Array, ours: Array, theirs: Array) -> Array:
    rows = [np.eye(S)[i].repeat(L) for i in range(S)]
    columns = [np.tile(np.eye(L)[j], S) for j in range(L)]
    found = linprog(costs.flatten(), A_eq=rows + columns, b_eq=np.concatenate([ours, theirs]))
    return np.array(found.x).reshape(S, L)


def moved(plan: Array, costs: Array, weights: Array, floor: float) -> Array:
    spent = np.array([sum(plan[i] * costs[i]) / weights[i] for i in range(len(weights))])
    ratio = sum(spent) / spent
    new = np.exp(ratio - max(ratio)) / sum(np.exp(ratio - max(ratio)))
    return np.array(floor / len(new) + (1 - floor) * new)


@pytest.mark.parametrize("case", ["all", "padded", "examples", "answers"])
@pytest.mark.parametrize("separate", [False, True])
def test_bert_emd(case: str, separate: bool) -> None:
    s, t = answers()
    options: dict[str, Any] = {"layers": [S, L], "heads": HEADS, "floor": 0.1}
    objective = BertEMD(STATES, QUERIES, KEYS, separate=separate, **options)
    ours, theirs = answer(LOGITS, s), answer(LOGITS, t)
    objective.bind(ours, theirs)
    weights = {kind: (np.full(S, 1 / S), np.full(L, 1 / L)) for kind in ("states", "attention")}
    costs = {
        "states": np.array(
            [
                [state_cost(objective, s[f"h{i}"], t[f"x{j}"], case) for j in range(L)]
                for i in range(S)
            ]
        ),
        "attention": np.array([[score_cost(s, t, i, j, case) for j in range(L)] for i in range(S)]),
    }
    for _ in range(3):
        terms = objective(ours, theirs, text(*SEEN[case]))
        new = {}
        for kind, (w, v) in weights.items():
            plan = cheapest(costs[kind], w, v)
            found = float(terms[f"bert_emd_{kind}"].detach())
            assert found == pytest.approx(np.sum(plan * costs[kind]), rel=1e-6)
            new[kind] = (
                moved(plan, costs[kind], w, 0.1),
                moved(plan.T, costs[kind].T, v, 0.1),
            )
        if not separate:
            both = [sum(pair) / 2 for pair in zip(*new.values(), strict=True)]
            new = dict.fromkeys(new, (np.array(both[0]), np.array(both[1])))
        weights = new
        objective.advance()
        for kind, pair in weights.items():
            for whose, wanted in zip(("student", "teacher"), pair, strict=True):
                kept = objective.get_buffer(f"{kind}_{whose}").numpy()
                np.testing.assert_allclose(kept, wanted, rtol=1e-5)


def test_only_what_is_moved_gets_a_gradient_and_costs_memory() -> None:
    s, t = answers()
    objective = BertEMD(STATES, layers=[S, L], shared=False)
    ours, theirs = answer(LOGITS, s), answer(LOGITS, t)
    objective.bind(ours, theirs)
    assert sorted(objective.adapters) == ["h0", "h1"]
    student = ours.map(lambda x: x.requires_grad_())
    (value_,) = objective(student, theirs, text()).values()
    value_.backward()
    plan, _ = objective._last["states"]
    assert int((plan > 0).sum()) <= S + L - 1
    assert all(student[f"h{i}"].grad is not None for i in range(S))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"states": STATES, "layers": [2]}, "layers must be how many layers student and teacher"),
        ({"states": {"h0": "x0"}, "layers": [2, 3]}, "name all layers of both networks by one"),
        ({"queries": QUERIES, "layers": [2, 3]}, "needs states, or queries and keys"),
        ({"states": STATES, "layers": [2, 3], "floor": 2}, "floor must be 0 to 1"),
        ({"states": STATES, "layers": [2, 3], "meet": "one"}, "meet must be each or mean"),
    ],
)
def test_wrong_options_are_refused(options: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=f"bert_emd.*{said}") as caught:
        BertEMD(**options)
    assert "\n" not in str(caught.value)


def test_networks_of_other_numbers_of_heads_meet_as_their_mean_or_not_at_all() -> None:
    s, t = answers()
    ours, theirs = answer(LOGITS, s), answer(LOGITS, t)
    for meet, fine in (("each", False), ("mean", True)):
        objective = BertEMD(None, QUERIES, KEYS, layers=[S, L], heads=[2, 3], meet=meet)  # type: ignore[arg-type]
        if fine:
            objective.bind(ours, theirs)
            assert value(objective, ours, theirs, text()) > 0
        else:
            with pytest.raises(ShapeMismatch, match="brought together by meet: mean"):
                objective.bind(ours, theirs)


def small_probe(make: Any, *, examples: int, classes: int, agree: bool) -> Probe:
    """Queries and keys so small that the gradient of products of four of them fits fp16."""
    rows = np.arange(examples) % 7
    logits = noise(7, classes)[rows]
    features = [
        {
            f"{k}{i}": 0.05 * noise(7, T, width, seed=9 * i + (k == "k") + width)[rows]
            for k in "qk"
            for i in range(count)
        }
        for count, width in ((4, 4), (6, 6))
    ]
    batch = text()
    inputs = {"input_ids": torch.zeros(examples, T, dtype=torch.int64)}
    student, teacher = (answer(logits, each) for each in features)
    targets, ids = torch.arange(examples) % classes, torch.arange(examples)
    return Probe(student, teacher, type(batch)(inputs, targets=targets, ids=ids))


CONTRACTS = objective_contracts(
    lambda: BertEMD(None, QUERIES, KEYS, layers=[4, 6], heads=2), probe=small_probe
)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=list(CONTRACTS))
def test_bert_emd_of_attention_keeps_the_contracts(contract: Any) -> None:
    contract()


def test_where_costs_are_not_finite_weights_stay() -> None:
    s, t = answers()
    objective = BertEMD(STATES, layers=[S, L])
    ours, theirs = answer(LOGITS, s), answer(LOGITS, t)
    objective.bind(ours, theirs)
    broken = Outputs(ours.logits, {k: v * np.inf for k, v in ours.features.items()})
    objective(broken, theirs, text())
    objective.advance()
    assert objective.get_buffer("states_student").tolist() == [1 / S] * S
