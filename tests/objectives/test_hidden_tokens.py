"""Which tokens of a text count: one rule, whatever the mask and the padding."""

from typing import Any

import numpy as np
import pytest
import torch
from hidden_shared import ANSWERS, REAL, SEEN, N, T, text
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.objectives import (
    AbstractObjective,
    AttentionDistribution,
    AttentionScores,
    DistilBERTCosine,
    DualSpace,
    MiniLM,
    MiniLMRelations,
    PatientStates,
    TinyBERTStates,
    log_attention,
)
from tutelage.objectives.hidden.tokens import (
    documents,
    pooled_tokens,
    token_shares,
    token_units,
    visible_tokens,
)

H, QKV = {"h": "h"}, ({"q": "q"}, {"k": "k"}, {"v": "v"})
MAKERS: dict[str, Any] = {
    "tinybert_states": lambda **o: TinyBERTStates(H, adapter=None, **o),
    "distilbert_cosine": lambda **o: DistilBERTCosine(H, adapter=None, **o),
    "patient_kd": lambda **o: PatientStates(H),
    "tinybert_attention": lambda **o: AttentionScores(2, *QKV[:2], **o),
    "attention_kl": lambda **o: AttentionDistribution(2, *QKV[:2], **o),
    "minilm": lambda **o: MiniLM(2, *QKV, **o),
    "minilm_v2": lambda **o: MiniLMRelations(2, *QKV, **o),
}
EACH = pytest.mark.parametrize("name", MAKERS)


def answers(seed: int = 0, width: int = T) -> tuple[Outputs, Outputs]:
    source = torch.Generator().manual_seed(seed)
    return tuple(  # type: ignore[return-value]
        Outputs(
            torch.zeros(N, 3).double(),
            {k: torch.randn(N, width, 4, generator=source, dtype=torch.float64) for k in "hqkv"},
        )
        for _ in range(2)
    )


def bound(objective: AbstractObjective) -> AbstractObjective:
    objective.bind(*answers())
    return objective


def term(objective: AbstractObjective, s: Outputs, t: Outputs, batch: Batch) -> Tensor:
    return sum(objective(s, t, batch).values())  # type: ignore[return-value]


def spoilt(answer: Outputs, real: Any, number: float) -> Outputs:
    """Padded tokens hold something else."""
    kept = torch.from_numpy(real)[..., None]
    features = {k: torch.where(kept, v, number * (1 + v)) for k, v in answer.features.items()}
    return Outputs(answer.logits, features)


@EACH
@pytest.mark.parametrize("case", ["padded", "examples", "answers"])
@pytest.mark.parametrize("units", ["counted", "real"])
def test_padded_tokens_contribute_nothing(name: str, case: str, units: Any) -> None:
    objective, batch = bound(MAKERS[name](units=units)), text(*SEEN[case])
    s, t = answers()
    wanted = term(objective, s, t, batch)
    student = spoilt(s, REAL, 100.0).map(lambda x: x.clone().requires_grad_())
    found = term(objective, student, spoilt(t, REAL, -50.0), batch)
    torch.testing.assert_close(found, wanted)
    found.backward()
    for path, feature in student.features.items():
        if path in objective.taps[0]:
            assert feature.grad is not None
            assert not feature.grad[~torch.from_numpy(REAL)].any(), path


@EACH
@pytest.mark.parametrize("units", ["counted", "real"])
def test_uneven_parts_of_a_padded_batch_add_up(name: str, units: Any) -> None:
    """As gradient accumulation weighs them: each part by its counted tokens."""
    mask = np.array([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 1, 1]], dtype=bool)
    objective = bound(MAKERS[name](units=units))
    s, t = answers()
    for batch in (text(REAL, mask), text(REAL), text(REAL, mask[:, 1])):
        whole = term(objective, s, t, batch)
        parts = 0.0
        for rows in (slice(0, 2), slice(2, 3)):
            share = batch[rows].count / batch.count
            part = term(objective, s.map(lambda x: x[rows]), t.map(lambda x: x[rows]), batch[rows])  # noqa: B023
            parts += share * part
        torch.testing.assert_close(parts, whole)


@EACH
@pytest.mark.parametrize("units", ["counted", "real"])
def test_rows_of_which_nothing_is_real_or_counts_are_safe(name: str, units: Any) -> None:
    real = REAL.copy()
    real[1] = False
    objective = bound(MAKERS[name](units=units))
    for mask in (None, ANSWERS & real, np.zeros((N, T), dtype=bool)):
        s, t = answers()
        s = s.map(lambda x: x.requires_grad_())
        found = term(objective, s, t, text(real, mask))
        assert found.isfinite()
        found.backward()
        grads = [s[path].grad for path in objective.taps[0]]
        assert all(g is not None and bool(g.isfinite().all()) for g in grads)
        assert not any(g[1].any() for g in grads if g is not None)
    assert float(found.detach()) == 0


@EACH
def test_a_text_is_worth_the_same_however_it_is_padded(name: str) -> None:
    """Left or right, and in a longer batch than the probe was."""
    objective = bound(MAKERS[name]())
    s, t = answers(seed=3, width=4)
    inputs = torch.zeros(N, 4, dtype=torch.int64)
    wanted = term(objective, s, t, Batch({"input_ids": inputs}))
    for left in (0, 3):
        fill = [torch.randn(N, k, 4).double() for k in (left, 5 - left)]
        padded = [
            Outputs(
                x.logits, {k: torch.cat([fill[0], v, fill[1]], 1) for k, v in x.features.items()}
            )
            for x in (s, t)
        ]
        seen = torch.zeros(N, 9, dtype=torch.int64)
        seen[:, left : left + 4] = 1
        batch = Batch({"input_ids": torch.zeros_like(seen), "attention_mask": seen})
        torch.testing.assert_close(term(objective, *padded, batch), wanted)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["tinybert_attention", "attention_kl", "minilm", "minilm_v2"])
def test_documents_of_a_packed_row_do_not_see_each_other(name: str, causal: bool) -> None:
    objective = bound(MAKERS[name](causal=causal))
    s, t = answers(width=5)
    positions = np.array([[0, 1, 2, 0, 1]] * N)
    packed = term(objective, s, t, text(positions=positions))
    pieces = 0.0
    for part, share in ((slice(0, 3), 3 / 5), (slice(3, 5), 2 / 5)):
        cut = [x.map(lambda f: f[:, part] if f.ndim == 3 else f) for x in (s, t)]  # noqa: B023
        pieces += share * term(objective, *cut, Batch(torch.zeros(N, 1)))
    torch.testing.assert_close(packed, pieces)


def test_the_rule_in_numbers() -> None:
    values = torch.tensor([[1.0, 3.0, 50.0], [5.0, 7.0, 9.0]])
    real = torch.tensor([[1, 1, 0], [1, 1, 1]])
    mask = torch.tensor([[False, True, True], [True, False, False]])
    inputs = {"input_ids": real, "attention_mask": real}
    counted = token_units(values, Batch(inputs, mask=mask), "test")
    assert counted.tolist() == [[1, 3, 0], [5, 7, 9]]  # the padded token adds 0, though counted
    whole = token_units(values, Batch(inputs, mask=mask), "test", "real")
    assert whole.tolist() == [[2, 2, 2], [7, 7, 7]]
    assert token_units(values, Batch(inputs), "test").tolist() == [2, 7]
    assert token_units(values, Batch({"input_ids": real}), "test") is values


@pytest.mark.parametrize("case", SEEN)
def test_shares_are_those_of_the_mean(case: str) -> None:
    values, batch = torch.randn(N, T).double(), text(*SEEN[case])
    shares = token_shares(batch, values.shape, "test", values.dtype)
    s = Outputs(torch.zeros(N, 2).double(), {"h": values[..., None].sqrt().nan_to_num()})
    nothing = s.map(torch.zeros_like)
    objective = TinyBERTStates(H, adapter=None)
    objective.bind(s, nothing)
    wanted = objective(s, nothing, batch)["tinybert_states"]
    torch.testing.assert_close((shares * values.clamp(min=0)).sum(), wanted)


def test_a_question_is_seen_and_does_not_count() -> None:
    """The mask of answers hides no keys of a text: only padding does."""
    batch = text(REAL, ANSWERS)
    seen = visible_tokens(batch)
    assert seen is not None
    assert seen.tolist() == REAL.tolist()
    assert visible_tokens(text(None, ANSWERS)) is None
    bare = Batch(torch.zeros(N, T), mask=torch.from_numpy(REAL))
    assert torch.equal(visible_tokens(bare), torch.from_numpy(REAL))  # type: ignore[arg-type]


def test_rows_are_packed_where_positions_begin_anew() -> None:
    found = documents(text(positions=[[0, 1, 0, 1, 2], [0, 1, 2, 3, 4], [0, 0, 1, 0, 1]]))
    assert found is not None
    assert found.tolist() == [[0, 0, 1, 1, 1], [0] * 5, [0, 1, 1, 2, 2]]


@pytest.mark.parametrize("how", ["mean", "first", "last"])
def test_pooling_takes_real_tokens_wherever_padding_stands(how: Any) -> None:
    states = torch.arange(10.0).view(2, 5, 1)
    seen = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])
    batch = Batch({"input_ids": seen, "attention_mask": seen})
    wanted = {"mean": [3.0, 5.5], "first": [2.0, 5.0], "last": [4.0, 6.0]}[how]
    assert pooled_tokens(states, batch, how, "test").flatten().tolist() == wanted


def test_what_is_no_mask_of_these_tokens_is_refused() -> None:
    objective = bound(TinyBERTStates(H, adapter=None))
    s, t = answers(width=4)
    with pytest.raises(ShapeMismatch, match=r"tokens \(3, 4\), and the batch's attention_mask"):
        term(objective, s, t, text(REAL))
    inputs = {"input_ids": torch.zeros(N, 4), "attention_mask": torch.zeros(N, 1, 4, 4)}
    with pytest.raises(ShapeMismatch, match="attention_mask of a text must be"):
        term(objective, s, t, Batch(inputs))
    with pytest.raises(RecipeError, match="units must be counted or real, got 'all'"):
        MiniLM(2, *QKV, units="all")  # type: ignore[arg-type]
    with pytest.raises(ShapeMismatch, match="a mask of keys must be"):
        log_attention(torch.rand(1, 1, 2, 3), torch.rand(1, 1, 2, 3), padding=torch.ones(1, 3) > 0)


def test_the_dual_space_counts_by_the_same_rule() -> None:
    head = {"head": torch.nn.Linear(4, 6).double()}
    objective = DualSpace("h", "h", "head", "head")
    objective.borrow(head, head)
    bound(objective)
    s, t = answers()
    targets = np.ones((N, T), dtype=np.int64)
    batch = text(REAL, targets=targets)
    wanted = term(objective, s, t, batch)
    found = term(objective, spoilt(s, REAL, 90.0), spoilt(t, REAL, -9.0), batch)
    torch.testing.assert_close(found, wanted)
