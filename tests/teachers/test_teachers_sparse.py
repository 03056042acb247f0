"""The k likeliest classes, the tail's mass, and draws from the tail that leave no bias."""

import itertools

import numpy as np
import pytest
import torch

from tutelage.core.errors import ModelError, RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import SparseOutputs
from tutelage.objectives import sampled_soft_target, soft_target
from tutelage.teachers import sparse_answers
from tutelage.teachers.sparse import fewer

C, K, DRAWS = 7, 2, 3
TEACHER = torch.tensor([[0.4, -1.0, 2.0, 0.1, -3.0, 1.5, -0.2]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0.3, -0.5, 0.0, 0.7, -1.2, 0.2]], dtype=torch.float64)


def parts():
    """p of all classes, the tail's classes, and their own distribution."""
    p = np.exp(TEACHER[0].numpy())
    p /= p.sum()
    tail = [c for c in range(C) if c not in np.argsort(-p)[:K]]
    return p, tail, p[tail] / p[tail].sum()


def estimate(answers):
    """Value and gradient of one estimate."""
    leaf = STUDENT.clone().requires_grad_()
    value = sampled_soft_target(leaf, answers)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.item(), gradient[0]


def truth():
    leaf = STUDENT.clone().requires_grad_()
    value = soft_target(leaf, TEACHER, 1.0)
    return value.item(), torch.autograd.grad(value.sum(), leaf)[0][0]


def expected(weighted):
    """The exact expectation of value and gradient over (probability, answers)."""
    total, value, gradient = 0.0, 0.0, torch.zeros(C, dtype=torch.float64)
    for chance, answers in weighted:
        one, slope = estimate(answers)
        total, value, gradient = total + chance, value + chance * one, gradient + chance * slope
    assert total == pytest.approx(1, abs=1e-12)
    return value, gradient


def unbiased(weighted):
    value, gradient = expected(weighted)
    wanted, slope = truth()
    assert value == pytest.approx(wanted, abs=1e-10)
    torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-10)


def test_independent_draws_are_unbiased_over_all_125_triples():
    _, tail, r = parts()
    plain = sparse_answers(TEACHER, K, draws=DRAWS, points=torch.zeros(1))

    def every():
        for places in itertools.product(range(len(tail)), repeat=DRAWS):
            drawn = torch.tensor([[tail[place] for place in places]])
            yield (
                float(np.prod(r[list(places)])),
                SparseOutputs(
                    plain.logits,
                    top=plain.top,
                    log_tail=plain.log_tail,
                    drawn=drawn,
                    tail_mean=plain.tail_mean,
                ),
            )

    unbiased(every())


@pytest.mark.parametrize("draws", [1, 3, 8])
def test_systematic_draws_are_unbiased_over_all_points(draws):
    """Between two places where a class begins or ends for some draw nothing changes."""
    _, _, r = parts()
    edges = sorted({0.0, 1.0, *(float(x) for x in np.cumsum(r) * draws % 1)})

    def every():
        for low, high in itertools.pairwise(edges):
            point = torch.tensor([(low + high) / 2], dtype=torch.float64)
            yield high - low, sparse_answers(TEACHER, K, draws=draws, points=point)

    unbiased(every())


@pytest.mark.parametrize("point", [0.0, 0.3, 0.999])
def test_a_class_is_drawn_as_often_as_its_share_rounded_up_or_down(point):
    _, tail, r = parts()
    found = sparse_answers(TEACHER, K, draws=8, points=torch.tensor([point]))
    for c, share in zip(tail, r, strict=True):
        count = int((found.drawn == c).sum())
        assert np.floor(8 * share) <= count <= np.ceil(8 * share)
    assert found.drawn.shape == (1, 8)
    assert not np.isin(found.drawn.numpy(), found.top.numpy()).any()


def test_systematic_draws_vary_less_than_independent_ones():
    _, tail, r = parts()
    generator = np.random.default_rng(0)
    wanted = truth()[1]
    plain = sparse_answers(TEACHER, K, draws=DRAWS, points=torch.zeros(1))

    def spread(answers):
        return float(
            np.mean([float((estimate(each)[1] - wanted).square().sum()) for each in answers])
        )

    points = [torch.tensor([u]) for u in generator.random(200)]
    systematic = spread(sparse_answers(TEACHER, K, draws=DRAWS, points=u) for u in points)
    independent = spread(
        SparseOutputs(
            plain.logits,
            top=plain.top,
            log_tail=plain.log_tail,
            drawn=torch.from_numpy(generator.choice(tail, (1, DRAWS), p=r)),
            tail_mean=plain.tail_mean,
        )
        for _ in range(200)
    )
    assert systematic < 0.7 * independent


def test_kept_classes_are_the_likeliest_with_the_mass_of_the_others():
    p, tail, _ = parts()
    found = sparse_answers(TEACHER, K)
    assert found.top.tolist() == [[2, 5]]
    np.testing.assert_allclose(found.logits.exp()[0], p[[2, 5]], rtol=1e-12)
    assert found.log_tail.exp().item() == pytest.approx(p[tail].sum())
    assert found.drawn is None
    every = sparse_answers(TEACHER, C, draws=2, points=torch.zeros(1))
    assert every.log_tail.item() == -np.inf
    assert every.tail_mean.item() == 0  # of nothing: finite, and of no weight
    value, gradient = estimate(every)
    assert value == pytest.approx(truth()[0])
    torch.testing.assert_close(gradient, truth()[1])


@pytest.mark.parametrize("classes", [1003, 5000])
def test_of_many_classes_the_same_is_found_by_stretches(classes):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, classes)) * 3
    logits[0, -1], logits[1, :2] = 20.0, (19.0, 20.0)  # in the last, shorter stretch; side by side
    points = torch.from_numpy(generator.random(6))
    found = sparse_answers(torch.from_numpy(logits), 3, draws=50, points=points)
    for row, point in enumerate(points):
        p = np.exp(logits[row] - logits[row].max())
        p /= p.sum()
        order = np.argsort(-p)
        assert found.top[row].tolist() == order[:3].tolist()
        np.testing.assert_allclose(found.logits[row], np.log(p[order[:3]]), rtol=1e-9)
        tail = np.where(np.isin(np.arange(classes), order[:3]), 0, p)
        assert found.log_tail[row].item() == pytest.approx(np.log(tail.sum()), rel=1e-9)
        r = tail / tail.sum()
        assert found.tail_mean[row].item() == pytest.approx((r * np.log(p)).sum(), rel=1e-9)
        places = (np.arange(50) + float(point)) / 50
        wanted = np.searchsorted(np.cumsum(r), places, side="right")
        assert (found.drawn[row].numpy() == wanted).mean() == 1


def test_what_is_masked_is_not_looked_at_and_nothing_given_is_changed():
    logits = TEACHER.repeat(2, 3, 1).float()
    logits[0, 1], logits[1, 2] = torch.nan, torch.inf
    before, mask = logits.clone(), torch.tensor([[1, 0, 1], [1, 1, 0]]).bool()
    found = sparse_answers(logits, K, mask=mask, draws=1, points=torch.rand(2, 3))
    torch.testing.assert_close(logits, before, equal_nan=True)
    assert found.top[mask].tolist() == [[2, 5]] * 4
    for part in (found.logits, found.log_tail, found.tail_mean):
        assert part.isfinite().all()
    whole = found.logits.exp().sum(-1) + found.log_tail.exp()
    torch.testing.assert_close(whole, torch.ones(2, 3))
    with pytest.raises(ModelError, match="NaN or infinite logits"):
        sparse_answers(logits, K)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_looked_at_in_single(dtype):
    found = sparse_answers(TEACHER.to(dtype), K)
    assert found.logits.dtype == torch.float32
    wanted = sparse_answers(TEACHER.to(dtype).double(), K)
    torch.testing.assert_close(found.logits.double(), wanted.logits, rtol=1e-6, atol=1e-6)


def test_fewer_of_a_sparse_answer_is_the_sparse_answer_of_fewer():
    many, few = sparse_answers(TEACHER, 5), sparse_answers(TEACHER, 2)
    order = torch.tensor([[3, 0, 4, 1, 2]])  # kept in any order
    shuffled = SparseOutputs(
        many.logits.gather(1, order), top=many.top.gather(1, order), log_tail=many.log_tail
    )
    found = fewer(shuffled, 2)
    assert torch.equal(found.top, few.top)
    torch.testing.assert_close(found.logits, few.logits)
    torch.testing.assert_close(found.log_tail, few.log_tail)
    with pytest.raises(SparseAnswer, match="keep 2 classes, and 3 are asked for: set k: 2"):
        fewer(few, 3)


def test_wrong_options_are_one_line():
    with pytest.raises(RecipeError, match="k is 8, and there are 7 classes"):
        sparse_answers(TEACHER, 8)
    with pytest.raises(ShapeMismatch, match=r"2 draws need one point for each of \(1,\) units"):
        sparse_answers(TEACHER, 1, draws=2)
