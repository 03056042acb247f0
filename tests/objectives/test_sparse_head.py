"""The one-pass head against sparse answers, beside the same divergence of full logits."""

from typing import Any

import pytest
import torch
from objectives_shared import noise
from torch import Tensor, nn

import tutelage.objectives as o
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.engine import Learner, Machine, fit, sgd
from tutelage.models import Observed
from tutelage.objectives import DIVERGENCES, LinearHead, sparse_linear_divergence
from tutelage.settings import Classic
from tutelage.teachers import sparse_answers

UNITS, CLASSES, WIDE = 7, 11, 4
OPTIONS: dict[str, dict[str, float]] = {
    "forward": {},
    "reverse": {},
    "js": {"beta": 0.3},
    "skew": {"alpha": 0.2},
    "skew_reverse": {"alpha": 0.2},
    "alpha_beta": {"alpha": 0.7, "beta": 0.4},
}
LOGITS: dict[str, o.AbstractUnitLoss] = {
    "forward": o.SoftTarget(1.0),
    "reverse": o.ReverseKL(),
    "js": o.JensenShannon(0.3),
    "skew": o.SkewKL(0.2),
    "skew_reverse": o.SkewReverseKL(0.2),
    "alpha_beta": o.AlphaBeta(0.7, 0.4, 1.0),
}
BATCH = Batch(torch.zeros(UNITS, 1))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(noise(*shape, seed=seed))


def head() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and bias of a student, in fp64, which learn."""
    shapes = ((UNITS, WIDE), (CLASSES, WIDE), (CLASSES,))
    states, weight, bias = (drawn(*s, seed=i).requires_grad_() for i, s in enumerate(shapes))
    return states, weight, bias


def answers(k: int, draws: int = 0) -> SparseOutputs:
    logits = 2 * drawn(UNITS, CLASSES, seed=7)
    points = torch.rand(UNITS, generator=torch.Generator().manual_seed(0))
    return sparse_answers(logits, k, draws=draws, points=points)


def close(found: Tensor, wanted: Tensor, learning: tuple[Tensor, ...]) -> None:
    assert found.item() == pytest.approx(wanted.item(), rel=1e-11)
    pairs = zip(*(torch.autograd.grad(x, learning) for x in (found, wanted)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("draws", [0, 3])
@pytest.mark.parametrize("k", [1, 3, CLASSES])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_value_and_gradients_are_those_through_full_logits(name: str, k: int, draws: int) -> None:
    states, weight, bias = head()
    mask = torch.tensor([1, 1, 0, 1, 1, 0, 1]).bool()
    weights = torch.tensor([1.0, 0.5, 3.0, 0.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    labels = torch.tensor([0, 3, 4, 8, -1, 2, 5])
    logits, teacher = states @ weight.T + bias, answers(k, draws)
    each = LOGITS[name].values(Outputs(logits), teacher, BATCH)
    each = each + 0.4 * o.cross_entropy(logits, labels)
    found = sparse_linear_divergence(
        states,
        weight,
        teacher,
        divergence=name,
        mask=mask,
        weights=weights,
        labels=labels,
        cross_entropy=0.4,
        student_bias=bias,
        tile_rows=2,
        **OPTIONS[name],
    )
    close(found, (each * weights * mask).sum() / mask.sum(), (states, weight, bias))


def test_draws_serve_forward_kl_and_others_compare_buckets() -> None:
    states, weight, _ = head()
    plain, with_draws = answers(3), answers(3, 4)
    for name in DIVERGENCES:
        one, other = (
            sparse_linear_divergence(states, weight, each, divergence=name)
            for each in (plain, with_draws)
        )
        assert (one.item() == pytest.approx(other.item(), rel=1e-12)) == (name != "forward")


def test_all_classes_kept_is_the_divergence_of_two_heads() -> None:
    states, weight, _ = head()
    theirs, v = drawn(UNITS, WIDE + 2, seed=8), drawn(CLASSES, WIDE + 2, seed=9)
    teacher = sparse_answers(theirs @ v.T, CLASSES)
    for name in DIVERGENCES:
        options: dict[str, Any] = {"divergence": name, **OPTIONS[name]}
        wanted = o.linear_divergence(states, weight, theirs, v, **options)
        close(
            sparse_linear_divergence(states, weight, teacher, **options), wanted, (states, weight)
        )


def test_padded_rows_of_the_students_head_take_no_part() -> None:
    states, weight, _ = head()
    teacher = sparse_answers(drawn(UNITS, 9, seed=7), 3)
    found = sparse_linear_divergence(states, weight, teacher, vocabulary=9)
    wanted = o.SoftTarget(1.0).values(Outputs(states @ weight[:9].T), teacher, BATCH).mean()
    close(found, wanted, (states, weight))


def test_frozen_heads_own_gradients_and_retained_graphs() -> None:
    states, weight, _ = head()
    teacher = answers(3)
    loss = sparse_linear_divergence(states, weight, teacher)
    dh, dw = torch.autograd.grad(3 * loss, (states, weight), retain_graph=True)
    for first, again in zip((dh, dw), torch.autograd.grad(3 * loss, (states, weight)), strict=True):
        assert torch.equal(first, again)
    frozen = sparse_linear_divergence(states, weight.detach(), teacher)
    torch.testing.assert_close(torch.autograd.grad(3 * frozen, states)[0], dh)
    (3 * sparse_linear_divergence(states, weight, teacher, into_grad=3)).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, dw)
    empty = sparse_linear_divergence(states, weight, teacher, mask=torch.zeros(UNITS).bool())
    assert empty.item() == 0
    assert not torch.autograd.grad(empty, weight)[0].any()


def test_bf16_states_and_heads_lose_nothing_but_their_own_rounding() -> None:
    states, weight = (drawn(*s, seed=i).bfloat16() for i, s in enumerate(((64, 32), (500, 32))))
    teacher = sparse_answers(2 * drawn(64, 500, seed=5), 8)
    exact = states.double().requires_grad_(), weight.double().requires_grad_()
    wanted = sparse_linear_divergence(*exact, teacher)
    truth = torch.autograd.grad(wanted, exact)
    rough = states.requires_grad_(), weight.requires_grad_()
    found = sparse_linear_divergence(*rough, teacher.map(Tensor.float))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    for ours, true in zip(torch.autograd.grad(found, rough), truth, strict=True):
        assert ours.dtype == torch.bfloat16
        assert float((ours.double() - true).norm() / true.norm()) < 3e-3


def test_a_student_far_from_the_teacher_gets_finite_gradients() -> None:
    states = torch.full((2, 1), 1e4, requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0], [0.5]], requires_grad=True)
    teacher = SparseOutputs(
        torch.tensor([[-0.1], [-1e-9]]),
        top=torch.tensor([[2], [0]]),
        log_tail=torch.tensor([-2.35, -torch.inf]),
    )
    for name in DIVERGENCES:
        loss = sparse_linear_divergence(states, weight, teacher, divergence=name)
        assert loss.isfinite()
        for found in torch.autograd.grad(loss, (states, weight)):
            assert found.isfinite().all()


BAD: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"vocabulary": 12}, ShapeMismatch, "2 to 11 can be compared"),
    ({"student_weight": torch.zeros(11, 5).double()}, ShapeMismatch, "does not read its hidden"),
    ({"student_bias": torch.zeros(3)}, ShapeMismatch, "student's bias"),
    ({"student_hidden": torch.zeros(3, 4).double()}, ShapeMismatch, "answer the same units"),
    ({"vocabulary": 5}, DataError, "where the student has 5 classes"),
    ({"divergence": "tvd"}, RecipeError, "knows no divergence 'tvd'"),
    ({"cross_entropy": 1.0}, DataError, "needs targets"),
    ({"mask": torch.ones(7, 2).bool()}, ShapeMismatch, "one entry for each unit"),
)


@pytest.mark.parametrize(("options", "error", "said"), BAD)
def test_wrong_input_is_one_line(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    states, weight, _ = head()
    given = {"student_hidden": states, "student_weight": weight, **options, "answers": answers(3)}
    with pytest.raises(error, match=said) as caught:
        sparse_linear_divergence(**given)
    assert "\n" not in str(caught.value)


# -- as an objective, in the one loop --------------------------------------------------------------


class Small(nn.Module):
    """A language model of one word's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(40, 8), nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 40, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(self.norm(self.embed(words)))
        return logits


def before_the_head(model: nn.Module, words: Tensor) -> Tensor:
    assert isinstance(model, Small)
    hidden: Tensor = model.norm(model.embed(words))
    return hidden


TABLE = 2 * drawn(40, 40, seed=3).float()


def kept_answers(batch: Batch) -> Outputs:
    assert isinstance(batch.inputs, Tensor)
    return sparse_answers(TABLE[batch.inputs], 4)


def taught(objective: o.AbstractObjective, *, accumulate: int = 1, stops: bool = True) -> Tensor:
    torch.manual_seed(0)
    student = Small()
    learner = Learner(
        Observed(student, **({"read": before_the_head} if stops else {})), sgd(learning_rate=0.5)
    )
    words = torch.randint(0, 40, (6, 10))
    batch = Batch(words, words.roll(-1, 1), torch.rand(6, 10) > 0.3, torch.arange(6))
    fit(
        Classic(learner, kept_answers, objective),
        [batch],
        steps=8,
        machine=Machine(accumulate=accumulate),
    )
    return student.lm_head.weight.detach()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_student_learns_from_kept_answers_as_through_its_logits(accumulate: int) -> None:
    head = LinearHead("norm", divergence="reverse", cross_entropy=0.5)
    wanted = taught(o.ReverseKL() + 0.5 * o.CrossEntropy(), stops=False)
    found = taught(head, accumulate=accumulate)
    assert float((wanted - taught(0.0 * o.CrossEntropy(), stops=False)).abs().max()) > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_objective_says_what_it_needs() -> None:
    assert (LinearHead("norm").taps, LinearHead("norm").borrows) == (
        (["norm"], []),
        (["lm_head"], []),
    )
    with pytest.raises(RecipeError, match="give teacher and teacher_head, or neither"):
        LinearHead("norm", "norm")
    states, weight, _ = head()
    student = Outputs(states.detach(), {"norm": states})
    linear = nn.Linear(WIDE, CLASSES, bias=False, dtype=torch.float64)
    linear.weight.data = weight.detach()

    def ask(teacher: Outputs, **options: Any) -> Tensor:
        objective = LinearHead("norm", **options)
        objective.borrow({"lm_head": linear}, {})
        return objective(student, teacher, BATCH)["linear_head"]

    assert ask(answers(3)).item() > 0
    with pytest.raises(SparseAnswer, match=r"linear_head at temperature 2 .* set temperature: 1"):
        ask(answers(3), temperature=2.0)
    with pytest.raises(RecipeError, match="needs sparse answers, and this teacher gives logits"):
        ask(Outputs(drawn(UNITS, CLASSES, seed=7)))
