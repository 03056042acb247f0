"""Faults of public systems with kept answers of language models, each by name; ours has none."""

import numpy as np
import pytest
import torch
from objectives_shared import noise, softmax
from torch import Tensor, nn

import tutelage.objectives as o
from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.engine import Learner, Machine, fit, sgd
from tutelage.models import Observed
from tutelage.objectives import AbstractObjective
from tutelage.settings import Classic
from tutelage.teachers import Cached, sparse_answers

COUNT, L, V = 12, 6, 20


class Texts:
    """Twelve rows whose numbers of answer tokens differ much, in an order by epoch."""

    def __init__(self, size: int, seed: int = 0):
        draw = torch.Generator().manual_seed(0)
        self.ids, self.views, self._size, self._seed = torch.arange(COUNT), 1, size, seed
        self.words = torch.randint(0, V, (COUNT, L), generator=draw)
        lengths = torch.tensor([1, 6, 2, 5, 1, 6, 1, 1, 6, 3, 2, 4])
        self.mask = torch.arange(L) >= L - lengths[:, None]

    def identity(self) -> dict[str, object]:
        return {"data": "rows", "augment": [], "seed": None}

    def __len__(self) -> int:
        return -(-COUNT // self._size)

    def epoch(self, number: int, start: int = 0):  # type: ignore[no-untyped-def]
        order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(self._seed + number))
        for ids in list(order.split(self._size))[start:]:
            inputs = {"input_ids": self.words[ids]}
            yield Batch(inputs, mask=self.mask[ids], ids=ids, view=0)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Embedding(V, V)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        found: Tensor = self.head(inputs["input_ids"])
        return found


TABLE = torch.from_numpy(3 * noise(COUNT, L, V, seed=3)).float()


def teacher(batch: Batch) -> Outputs:
    """Each example has answers of its own, so that a row of another is noticed."""
    assert batch.ids is not None
    return Outputs(TABLE[batch.ids])


def taught(
    who: object, source: Texts, *, accumulate: int = 1, objective: AbstractObjective | None = None
) -> Tensor:
    torch.manual_seed(0)
    student = Student()
    learner = Learner(Observed(student), sgd(learning_rate=0.5, momentum=0.0))
    setting = Classic(learner, who, objective or o.SoftTarget(1.0))  # type: ignore[arg-type]
    fit(setting, source, steps=3 * len(source), machine=Machine("cpu", accumulate=accumulate))
    return student.head.weight.detach()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_easydistill_teacher_rows_by_step_not_id(tmp_path, accumulate: int) -> None:  # type: ignore[no-untyped-def]
    """Its rows are fetched by the number of the update: shuffling and accumulation mix them up."""
    source = Texts(size=4)
    with Cached(teacher, tmp_path, source, form="top", k=V, precision="fp32", name="rows") as kept:
        kept.fill(Texts(size=5, seed=9))  # in another order, in other batches
        found = taught(kept, source, accumulate=accumulate)
        assert kept.counts.asked == COUNT
    wanted = taught(teacher, source)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    steps = iter(range(10**6))

    def by_step(batch: Batch) -> Outputs:
        row = next(steps) % COUNT
        return Outputs(TABLE[row : row + 1].expand(len(batch), -1, -1))

    assert float((taught(by_step, source) - wanted).abs().max()) > 0.1


def test_easydistill_double_division_by_mask_sum() -> None:
    """The mean over answer tokens, once: a loss divided twice is as many times too small."""
    batch = next(Texts(size=COUNT).epoch(0))
    s = torch.from_numpy(noise(COUNT, L, V, seed=5))
    each = o.soft_target(s, teacher(batch).logits.double(), 1.0)
    wanted = float((each * batch.mask).sum() / batch.mask.sum())
    for answers in (teacher(batch), sparse_answers(teacher(batch).logits, V)):
        found = o.SoftTarget(1.0)(Outputs(s), answers, batch)["kd"]
        assert float(found) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("objective", [o.SoftTarget(1.0), o.ReverseKL(), o.AdaptiveKL()])
@pytest.mark.parametrize("k", [4, V])
def test_wrong_weighting_under_gradient_accumulation_with_uneven_chunks(
    objective: AbstractObjective, k: int
) -> None:
    """Chunks of 1 to 18 answer tokens: a mean of their means is no mean of the whole."""

    def sparse(batch: Batch) -> Outputs:
        return sparse_answers(teacher(batch).logits, k)

    whole = taught(sparse, Texts(size=6), objective=objective)
    for parts in (2, 3, 6):
        found = taught(sparse, Texts(size=6), objective=objective, accumulate=parts)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def test_accumulated_sequences_weigh_alike_under_per_sequence() -> None:
    by = o.Reweighted("reverse_kl", by={"per_sequence": {"length": 3.0}})
    whole = taught(teacher, Texts(size=6), objective=by)
    found = taught(teacher, Texts(size=6), objective=by, accumulate=3)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    assert (
        float((whole - taught(teacher, Texts(size=6), objective=o.ReverseKL())).abs().max()) > 0.01
    )


# -- what is outside the top k ---------------------------------------------------------------------


def best(k: int, loss: object, steps: int = 3000) -> Tensor:
    """The distribution at which a loss of one unit's logits is smallest."""
    z = torch.zeros(1, V, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(z)  # type: ignore[operator]
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[arg-type]
    return z.detach().softmax(-1)[0]


@pytest.mark.parametrize(
    "objective", [o.SoftTarget(1.0), o.ReverseKL(), o.JensenShannon(), o.SkewKL()]
)
def test_renormalised_top_k_and_top_k_zeroed_are_not_what_is_learnt(
    objective: AbstractObjective,
) -> None:
    """The student ends with the teacher's own probabilities, and with its mass in the tail.

    A teacher whose top k is renormalised, its tail zeroed, makes an overconfident student
    (DistillKit, axolotl); both renormalised leave the tail's mass free (NeMo-RL, ms-swift).
    """
    z = torch.from_numpy(2 * noise(1, V, seed=8))
    p, answers = softmax(z[0].numpy()), sparse_answers(z, 4)
    top = answers.top[0].numpy()
    kept = p[top]
    batch = Batch(torch.zeros(1, 1))
    found = best(4, lambda s: sum(objective(Outputs(s), answers, batch).values()))
    np.testing.assert_allclose(found[top], kept, atol=2e-4)
    assert float(1 - found[top].sum()) == pytest.approx(1 - kept.sum(), abs=5e-4)
    zeroed = best(
        4, lambda s: -(torch.from_numpy(kept / kept.sum()) * s.log_softmax(-1)[0, top]).sum()
    )
    assert float(1 - zeroed[top].sum()) < 0.01 < 1 - kept.sum()
    free = best(4, lambda s: o.top_target(s, answers.logits, answers.top).sum())
    assert abs(float(free[top].sum()) - kept.sum()) > 0.05


def test_kept_probabilities_are_never_renormalised() -> None:
    z = torch.from_numpy(2 * noise(3, 5, V, seed=8)).float()
    exact = z.softmax(-1).gather(-1, sparse_answers(z, 4).top)
    torch.testing.assert_close(sparse_answers(z, 4).logits.exp(), exact)
    assert float(exact.sum(-1).max()) < 0.99


def test_a_tail_of_a_thousandth_is_held_and_not_dropped() -> None:
    """Without its bucket nothing keeps a student from putting half of its mass there."""
    log_p = torch.tensor([[0.999]], dtype=torch.float64).log()
    answers = SparseOutputs(log_p, top=torch.tensor([[0]]), log_tail=torch.tensor([0.001]).log())
    student = torch.zeros(1, 2, dtype=torch.float64)
    assert float(o.ReverseKL()(Outputs(student), answers, Batch(torch.zeros(1)))["reverse_kl"]) > 2
