"""Faults of public code on hidden states and attention, each of which ours does not have."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hidden_shared import REAL, N, T, text
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.objectives import (
    AbstractObjective,
    AttentionScores,
    BertEMD,
    DistilBERTCosine,
    DualSpace,
    MiniLMRelations,
    PatientStates,
    TinyBERT,
    TinyBERTStates,
    attention_scores,
    layer_pairs,
    margin_mse,
)
from tutelage.objectives.hidden.layers import every, spread

H = {"h": "h"}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def outputs(**features: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(next(iter(features.values()))), 3).double(), features)


def term(objective: AbstractObjective, s: Outputs, t: Outputs, batch: Batch) -> Tensor:
    objective.bind(s, t)
    return sum(objective(s, t, batch).values())  # type: ignore[return-value]


def test_scores_of_padded_pairs_are_no_zeros_that_count() -> None:
    """TinyBERT, TextBrewer, BERT-EMD: hidden scores become 0 in both, and dilute the mean."""
    q, k = noise(N, 2, T, 4), noise(N, 2, T, 4, seed=1)
    p, r = noise(N, 2, T, 4, seed=2), noise(N, 2, T, 4, seed=3)
    pairs = torch.from_numpy(REAL[:, None, :, None] & REAL[:, None, None, :])
    ours, theirs = attention_scores(q, k), attention_scores(p, r)
    diluted = F.mse_loss(torch.where(pairs, ours, 0.0), torch.where(pairs, theirs, 0.0))
    found = term(
        AttentionScores(None, {"q": "q"}, {"k": "k"}), outputs(q=q, k=k), outputs(q=p, k=r),
        text(REAL),
    )  # fmt: skip
    each = [(ours - theirs)[n][:, REAL[n]][:, :, REAL[n]].square().mean() for n in range(N)]
    torch.testing.assert_close(found, torch.stack(each).mean())
    assert diluted < 0.8 * found  # 9 + 4 + 25 of 75 pairs are real


def test_padded_states_are_no_zeros_that_count() -> None:
    """TextBrewer and many ports: both states are multiplied by the mask, and the mean is of all."""
    s, t = noise(N, T, 4), noise(N, T, 4, seed=1)
    real = torch.from_numpy(REAL)
    diluted = F.mse_loss(s * real[..., None], t * real[..., None])
    found = term(TinyBERTStates(H, adapter=None), outputs(h=s), outputs(h=t), text(REAL, REAL))
    torch.testing.assert_close(found, (s - t)[real].square().mean())
    torch.testing.assert_close(diluted, found * float(REAL.mean()))


def test_the_gradient_of_a_text_does_not_shrink_with_the_batchs_longest() -> None:
    """What diluted means do: a short text beside a long one learns less."""
    gradients = []
    for longest in (3, 30):
        s, t = noise(1, 3, 4), noise(1, 3, 4, seed=1)
        s, t = (F.pad(x, (0, 0, 0, longest - 3)) for x in (s, t))
        s.requires_grad_()
        seen = torch.zeros(1, longest, dtype=torch.int64)
        seen[:, :3] = 1
        batch = Batch({"input_ids": seen, "attention_mask": seen})
        term(TinyBERTStates(H, adapter=None), outputs(h=s), outputs(h=t), batch).backward()
        assert s.grad is not None
        gradients.append(s.grad[:, :3])
    torch.testing.assert_close(gradients[0], gradients[1])


def dual(classes: int) -> tuple[DualSpace, Outputs, Outputs]:
    torch.manual_seed(0)
    objective = DualSpace("h", "h", "head", "head", temperature=1.0)
    heads = [{"head": nn.Linear(4, classes).double()} for _ in "st"]
    objective.borrow(*heads)
    return objective, outputs(h=noise(N, T, 4)), outputs(h=noise(N, T, 4, seed=1))


def test_dskd_is_not_divided_by_the_vocabulary() -> None:
    """Model-Optimizer: a mean over classes too makes the loss V times too small."""
    objective, s, t = dual(50)
    targets = torch.zeros(N, T, dtype=torch.int64)
    batch = Batch({"input_ids": targets}, targets=targets, mask=targets == 0)
    term(objective, s, t, batch)
    ours = objective.lent.student("head")
    read = ours(objective.projectors["to_student"](t["h"]))
    p, log_q = read.log_softmax(-1), ours(s["h"]).log_softmax(-1)
    by_mean = F.kl_div(log_q, p, reduction="none", log_target=True).mean()
    found = objective(s, t, batch)["dskd_student"]
    torch.testing.assert_close(found, 50 * by_mean)


def test_dskd_fills_no_vocabulary_up_with_zeros() -> None:
    """Liger: where the teacher's vocabulary is larger the student's logits there are 0, not -inf.

    Here each term has one head, and so one vocabulary.
    """
    objective, s, t = dual(5)
    head = nn.Linear(4, 9).double()
    objective.borrow({"head": objective.lent.student("head")}, {"head": head})
    targets = torch.zeros(N, T, dtype=torch.int64)
    batch = Batch({"input_ids": targets}, targets=targets)
    term(objective, s, t, batch)
    terms = objective(s, t, batch)
    ours = objective.lent.student("head")
    read, given = (
        ours(objective.projectors["to_student"](t["h"])),
        head(objective.projectors["to_teacher"](s["h"])),
    )
    assert read.shape[-1] == 5
    assert given.shape[-1] == 9
    for name, log_q, p in (
        ("dskd_student", ours(s["h"]), read),
        ("dskd_teacher", given, head(t["h"])),
    ):
        wanted = F.kl_div(
            log_q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True
        )
        torch.testing.assert_close(terms[name], wanted.sum(-1).mean())


def test_a_deep_teachers_upper_layers_are_reached() -> None:
    """DistillKit: ``layer_mapping: all`` pairs layer i with layer i, and the upper ones with none."""
    found = spread({"a.*": "b.*"}, [4, 12], "test")
    assert found == {"a.0": "b.2", "a.1": "b.5", "a.2": "b.8", "a.3": "b.11"}
    assert [j for _, j in layer_pairs(4, 12)] == [2, 5, 8, 11]


@pytest.mark.parametrize("adapter", ["linear", None])
@pytest.mark.parametrize("make", [TinyBERTStates, DistilBERTCosine, PatientStates])
def test_batches_of_any_length_go_through_one_projection(make: Any, adapter: Any) -> None:
    """An adapter of as many tokens as the probe had interpolates the tokens of other batches."""
    objective = make(H, adapter=adapter)
    width = 4 if adapter is None else 6
    objective.bind(outputs(h=noise(2, 5, 4)), outputs(h=noise(2, 5, width)))
    for length in (1, 4, 9):
        s, t = outputs(h=noise(2, length, 4)), outputs(h=noise(2, length, width, seed=1))
        assert objective(s, t, Batch(torch.zeros(2, 1)))[objective.name].isfinite()


def test_answers_are_not_shifted_once_more() -> None:
    """DistillKit: labels unshifted; here the mask of a position is that of its own state."""
    s, t = noise(N, T, 4), noise(N, T, 4, seed=1)
    mask = torch.zeros(N, T, dtype=torch.bool)
    mask[0, 2] = True
    found = term(TinyBERTStates(H, adapter=None), outputs(h=s), outputs(h=t), text(None, mask))
    torch.testing.assert_close(found, (s - t)[0, 2].square().mean())


@pytest.mark.parametrize("layers", [None, [3], [3, 0], "36", [3.0, 6]])
def test_a_star_asks_how_many_layers_there_are(layers: Any) -> None:
    with pytest.raises(RecipeError, match=r"layers must be how many layers .*such as \[3, 6\]"):
        TinyBERTStates({"l.*": "l.*"}, layers=layers)


@pytest.mark.parametrize(
    "pairs", [{"l.*": "l"}, {"l": "l.*"}, {"l.*.*": "l.*"}, {"l.*": ["a.*"] * 2}]
)
def test_a_star_wants_one_on_the_other_side(pairs: Any) -> None:
    with pytest.raises(RecipeError, match=r"needs one '\*' on either side"):
        TinyBERTStates(pairs, layers=[3, 6])


def test_stars_and_names_go_together() -> None:
    found = spread({"e": "e", "l.*": "m.*", "l.0": "x"}, [1, 2], "test")
    assert found == {"e": "e", "l.0": ["m.1", "x"]}
    assert every({"l*": "m*"}, [1, 2], "test") == (["l0"], ["m0", "m1"])
    assert TinyBERTStates({"l.*": "m.*"}, layers=[2, 3], order="last").pairs[0] == ("l.0", "m.1")


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (TinyBERTStates, {"pairs": H, "weights": [1, 2]}, "one number for each of the 1 pairs"),
        (TinyBERTStates, {"pairs": H, "units": "all"}, "units must be counted or real"),
        (TinyBERTStates, {"pairs": H, "shared": "yes"}, "shared must be true or false"),
        (TinyBERTStates, {"pairs": {}}, "tinybert_states: pairs must map student features"),
        (PatientStates, {"pairs": H, "token": "cls"}, "token must be mean or first or last"),
        (AttentionScores, {"queries": H}, "needs queries and keys, or qkv"),
        (AttentionScores, {"queries": H, "keys": H, "meet": "all"}, "meet must be each or mean"),
        (TinyBERT, {"states": H, "queries": H}, "tinybert_attention needs queries and keys"),
        (BertEMD, {"states": {"l*": "l*"}, "layers": [1, 2], "temperature": 0}, "greater than 0"),
        (DualSpace, {"student": "h", "teacher": "h", "student_head": "", "teacher_head": "w"}, "by path"),
        (MiniLMRelations, {"queries": H, "keys": H, "values": H, "units": 1}, "units must be"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_one_line(make: Any, options: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_other_shapes_are_refused_in_one_line() -> None:
    with pytest.raises(ShapeMismatch, match=r"states \(N, T, D\) or vectors \(N, D\), and got"):
        term(TinyBERTStates(H, adapter=None), *[outputs(h=noise(2, 3, 4, 4))] * 2, text())
    few, many = (outputs(q=noise(2, n, 5, 3), k=noise(2, n, 5, 3)) for n in (2, 4))
    with pytest.raises(ShapeMismatch, match="heads and tokens must be as many"):
        AttentionScores(None, {"q": "q"}, {"k": "k"}).bind(few, many)
    with pytest.raises(ShapeMismatch, match="constant on fewer than 2 classes"):
        margin_mse(torch.zeros(2, 1), torch.zeros(2, 1))
    objective, s, _ = dual(5)
    with pytest.raises(ShapeMismatch, match="the teacher's head reads vectors of 4"):
        objective.bind(s, outputs(h=noise(N, T, 5)))


def test_a_row_of_one_real_token_has_one_pair_of_scores() -> None:
    q, k = np.float64(2.0), np.float64(3.0)
    states = outputs(q=torch.full((1, 1, 2, 1), q), k=torch.full((1, 1, 2, 1), k))
    nothing = outputs(q=torch.zeros(1, 1, 2, 1).double(), k=torch.zeros(1, 1, 2, 1).double())
    seen = torch.tensor([[1, 0]])
    batch = Batch({"input_ids": seen, "attention_mask": seen})
    objective = AttentionScores(None, {"q": "q"}, {"k": "k"})
    assert float(term(objective, states, nothing, batch)) == 36.0
