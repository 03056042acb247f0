"""Divergences from sparse answers over k + 1 buckets, against numpy; bounds, edges, precision."""

import numpy as np
import pytest
import torch
from objectives_shared import answer, batch_of, noise, softmax, value
from sparse_samples import EQUATIONS, C, N, S, T, buckets, sparse_of, tensor
from torch import Tensor

from tutelage import objectives as o
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.objectives.response.buckets import log_buckets

MASK = np.array([True, False, True, True, False, True])
CONVEX = sorted(set(EQUATIONS) - {"alpha_beta", "adaptive_kl"})  # f-divergences, or sums of such


def gradient(name: str, student: Tensor, teacher: Outputs) -> Tensor:
    leaf = student.detach().clone().requires_grad_()
    objective, _ = EQUATIONS[name]
    loss = objective(Outputs(leaf), teacher, Batch(torch.zeros(len(leaf), 1)))
    (found,) = torch.autograd.grad(sum(loss.values()), leaf)
    return found


@pytest.mark.parametrize("k", [1, 3, C - 1, C])
@pytest.mark.parametrize("name", EQUATIONS)
def test_value_is_the_equation_over_the_buckets(name: str, k: int) -> None:
    objective, equation = EQUATIONS[name]
    teacher = sparse_of(T, k)
    each = []
    for n in range(N):
        top = teacher.top[n].tolist()
        each.append(equation(buckets(T[n], top), buckets(S[n], top), k))
    found = value(objective, answer(S), teacher, batch_of(N))
    assert found == pytest.approx(sum(each) / N, rel=1e-9)
    masked = value(objective, answer(S), teacher, batch_of(N, mask=MASK))
    assert masked == pytest.approx(sum(np.array(each)[MASK]) / sum(MASK), rel=1e-9)


@pytest.mark.parametrize("k", [2, C])
@pytest.mark.parametrize("name", EQUATIONS)
def test_gradient_is_that_of_finite_differences(name: str, k: int) -> None:
    objective, _ = EQUATIONS[name]
    teacher, batch = sparse_of(T, k), batch_of(N)
    found = gradient(name, tensor(S), teacher)
    if name == "adaptive_kl":  # no gradient goes through its weights: hold them
        p, q = (
            torch.stack(
                [tensor(buckets(z, t)) for z, t in zip(Z, teacher.top.tolist(), strict=True)]
            )
            for Z in (T, S)
        )
        errors = (p - q).abs()
        order = p[:, :k].argsort(-1, descending=True)
        inside = p[:, :k].gather(1, order).cumsum(1) <= 0.5
        inside[:, 0] = True
        share = (errors[:, :k].gather(1, order) * inside).sum(1) / errors.sum(1)
        wanted = sum(
            gradient(part, tensor(S), teacher) * weight[:, None]
            for part, weight in (("kd", share), ("reverse_kl", 1 - share))
        )
    else:
        wanted = torch.zeros_like(found)
        for n in range(N):
            for c in range(C):
                moved = []
                for step in (1e-5, -1e-5):
                    z = S.copy()
                    z[n, c] += step
                    moved.append(value(objective, answer(z), teacher, batch))
                wanted[n, c] = (moved[0] - moved[1]) / 2e-5
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", EQUATIONS)
def test_zero_and_flat_where_the_student_is_the_teacher(name: str) -> None:
    objective, _ = EQUATIONS[name]
    for k in (1, 4, C):
        teacher = sparse_of(T, k)
        assert abs(value(objective, answer(T + 7), teacher, batch_of(N))) < 1e-12
        if name != "tvd":  # of first order
            assert gradient(name, tensor(T), teacher).abs().max() < 1e-12


@pytest.mark.parametrize("name", CONVEX)
def test_joining_classes_never_raises_a_divergence(name: str) -> None:
    objective, _ = EQUATIONS[name]
    full = value(objective, answer(S), answer(T), batch_of(N))
    found = [value(objective, answer(S), sparse_of(T, k), batch_of(N)) for k in range(1, C + 1)]
    assert (np.diff(found) >= -1e-12).all()
    assert found[0] < found[-1] - 1e-3
    assert found[-2] == pytest.approx(found[-1], rel=1e-9)  # a tail of one class joins nothing
    assert found[-1] == pytest.approx(full, rel=1e-9)


@pytest.mark.parametrize("name", CONVEX)
def test_the_bound_is_reached_where_the_tails_have_one_shape(name: str) -> None:
    """Inside the tail the student's logits are the teacher's, up to one constant a unit."""
    objective, _ = EQUATIONS[name]
    teacher = sparse_of(T, 3)
    student = tensor(T) + tensor(noise(N, 1, seed=5))
    student.scatter_(1, teacher.top, student.gather(1, teacher.top) + tensor(noise(N, 3, seed=6)))
    found = value(objective, Outputs(student), teacher, batch_of(N))
    assert found == pytest.approx(value(objective, Outputs(student), answer(T), batch_of(N)))
    assert found > 0.01


@pytest.mark.parametrize("size", [1e-3, 1e-12, 1e-30])
def test_a_tiny_tail_keeps_its_digits_in_single_precision(size: float) -> None:
    """1 - sum(q) is 0 there, or noise."""
    gap = -np.log(size)
    z = torch.tensor([[0.3, 0.0, -gap, -gap - 1, -gap - 2]])
    exact = z.double().softmax(-1)[0, 2:].sum().log()
    found = log_buckets(z, torch.tensor([[0, 1]]))[0, 2]
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)
    teacher = SparseOutputs(
        z[:, :2].log_softmax(-1), top=torch.tensor([[0, 1]]), log_tail=exact.float()[None] + 0.5
    )
    for name in EQUATIONS:
        true = gradient(name, z.double(), teacher.map(Tensor.double))
        torch.testing.assert_close(gradient(name, z, teacher).double(), true, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_at_gaps_of_ten_thousand(name: str, dtype: torch.dtype) -> None:
    for sign in (1, -1):
        z = torch.tensor([[1e4, 0.0, 0.0, -1e4], [0.0, 0.0, 0.0, 0.0]])
        log_p = (sign * z).log_softmax(-1)
        top = log_p.topk(2)
        tail = torch.log1p(-top.values.exp().sum(-1).clamp(max=1))  # -inf where it has no digits
        teacher = SparseOutputs(top.values, top=top.indices, log_tail=tail)
        student = z.to(dtype)
        found = value(EQUATIONS[name][0], Outputs(student), teacher, Batch(torch.zeros(2, 1)))
        assert np.isfinite(found)
        assert gradient(name, student, teacher).isfinite().all()


def test_an_impossible_tail_pulls_reverse_kl_and_stays_finite() -> None:
    z = torch.zeros(1, 4)
    teacher = SparseOutputs(
        torch.tensor([[0.5, 0.5]]).log(), top=torch.tensor([[0, 1]]), log_tail=torch.tensor([-torch.inf])
    )  # fmt: skip
    found = gradient("reverse_kl", z, teacher)
    assert found.isfinite().all()
    assert (found[0, 2:] > 10).all()


@pytest.mark.parametrize("name", EQUATIONS)
def test_other_temperatures_are_refused_in_one_line(name: str) -> None:
    made = type(EQUATIONS[name][0])(temperature=2.0)
    with pytest.raises(
        SparseAnswer, match=rf"^{name} at temperature 2 .*keep only 3: set temp"
    ) as no:
        made(answer(S), sparse_of(T, 3), batch_of(N))
    assert "\n" not in str(no.value)


def test_answers_to_other_units_or_classes_are_refused() -> None:
    with pytest.raises(ShapeMismatch, match=r"sparse answers \(6, 3\) for student logits \(4, 9\)"):
        o.ReverseKL()(answer(S[:4]), sparse_of(T, 3), batch_of(4))
    with pytest.raises(DataError, match=r"class number 8 from the teacher where the student has 8"):
        o.ReverseKL()(answer(S[:, :8]), sparse_of(T, C), batch_of(N))


def test_tokens_with_a_mask_are_units() -> None:
    teacher = sparse_of(T, 3)
    folded = SparseOutputs(
        teacher.logits.view(2, 3, 3),
        top=teacher.top.view(2, 3, 3),
        log_tail=teacher.log_tail.view(2, 3),
    )
    mask = torch.from_numpy(MASK)
    tokens = Batch(torch.zeros(2, 3), mask=mask.view(2, 3))
    for objective, _ in EQUATIONS.values():
        found = value(objective, Outputs(tensor(S).view(2, 3, C)), folded, tokens)
        assert found == pytest.approx(value(objective, answer(S), teacher, batch_of(N, mask=MASK)))


def test_the_gradient_of_kd_moves_mass_between_kept_classes_and_the_tail_alone() -> None:
    """Inside the tail each class moves with its own share of the student's: q_c / q_tail."""
    teacher = sparse_of(T, 3)
    found = gradient("kd", tensor(S), teacher) * N
    for n in range(N):
        p, q, top = softmax(T[n]), softmax(S[n]), teacher.top[n].tolist()
        rest = [c for c in range(C) if c not in top]
        ratio = sum(p[c] for c in rest) / sum(q[c] for c in rest)
        wanted = [q[c] - p[c] if c in top else q[c] * (1 - ratio) for c in range(C)]
        np.testing.assert_allclose(found[n], wanted, atol=1e-12)
