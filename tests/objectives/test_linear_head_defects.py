"""Faults of public systems in the losses of language models, each by name; ours has none of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs
from tutelage.objectives import LinearHead, linear_divergence, soft_target
from tutelage.testing import objective_contracts

ROWS, CLASSES, WIDE = 10, 50, 8


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def four(student_classes: int = CLASSES, teacher_classes: int = CLASSES) -> tuple[Tensor, ...]:
    """Hidden states and heads of student and teacher, of which the student's learn."""
    ours = drawn(ROWS, WIDE, seed=0), drawn(student_classes, WIDE, seed=1)
    theirs = drawn(ROWS, WIDE + 3, seed=2), drawn(teacher_classes, WIDE + 3, seed=3)
    return ours[0].requires_grad_(), ours[1].requires_grad_(), *theirs


@pytest.mark.parametrize(("ours", "theirs"), [(50, 56), (56, 50)])
def test_padded_vocabularies_are_cut_and_not_filled_with_zeros(ours: int, theirs: int) -> None:
    """A logit of 0 for a class that a model does not have gives it probability (Liger 0.8.5)."""
    h, w, g, v = four(ours, theirs)
    least = min(ours, theirs)
    wanted = soft_target(h @ w[:least].T, g @ v[:least].T, 1.0).mean()
    found = linear_divergence(h, w, g, v)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found, w)
    assert gradient.shape == w.shape
    assert not gradient[least:].any()
    more = max(0, theirs - ours)
    zeros = soft_target(F.pad(h @ w.T, (0, more)), F.pad(g @ v.T, (0, ours - least)), 1.0).mean()
    assert abs(zeros.item() / wanted.item() - 1) > 1e-3


@pytest.mark.parametrize("height", [1, 3, 4, 7, 10, 64])
def test_uneven_tiles_weigh_every_row_alike(height: int) -> None:
    """A mean of the means of tiles gives the rows of a short last tile more."""
    h, w, g, v = four()
    wanted = linear_divergence(h, w, g, v, tile_rows=ROWS)
    found = linear_divergence(h, w, g, v, tile_rows=height)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    pairs = zip(*(torch.autograd.grad(x, (h, w)) for x in (found, wanted)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-15)


def test_accumulated_parts_weigh_by_their_tokens() -> None:
    """Means of parts with unlike numbers of answer tokens are no mean of the whole (DistillKit)."""
    h, w, g, v = four()
    mask = torch.tensor([1, 0, 0, 0, 0, 1, 1, 1, 0, 1]).bool()
    whole = linear_divergence(h, w, g, v, mask=mask)
    parts = [slice(0, 5), slice(5, 10)]
    total = int(mask.sum())
    added = [linear_divergence(h[p], w, g[p], v, mask=mask[p], count=total) for p in parts]
    assert sum(x.item() for x in added) == pytest.approx(whole.item(), rel=1e-12)
    (wanted,) = torch.autograd.grad(whole, w)
    found = sum(torch.autograd.grad(x, w)[0] for x in added)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-15)
    means = [linear_divergence(h[p], w, g[p], v, mask=mask[p]).item() for p in parts]
    shares = [int(mask[p].sum()) / total for p in parts]
    weighed = sum(m * s for m, s in zip(means, shares, strict=True))
    assert weighed == pytest.approx(whole.item(), rel=1e-12)
    assert abs(sum(means) / 2 / whole.item() - 1) > 1e-3


def test_the_mean_is_divided_once() -> None:
    """Divided by the tokens twice, or by the classes too, a loss is a thousandth (EasyDistill)."""
    h, w, g, v = four()
    once = linear_divergence(h, w, g, v)
    twice = linear_divergence(torch.cat([h, h]), w, torch.cat([g, g]), v)
    assert twice.item() == pytest.approx(once.item(), rel=1e-12)
    total = linear_divergence(h, w, g, v, count=1)
    assert total.item() == pytest.approx(ROWS * once.item(), rel=1e-12)


def test_bf16_is_not_the_precision_of_the_softmax() -> None:
    """Log-softmax in bf16 spoils gradients by tens of percent where models are near (Liger)."""
    classes, width, rows = 4096, 64, 64
    states = drawn(rows, width, seed=0, dtype=torch.float32)
    head = drawn(classes, width, seed=1, dtype=torch.float32) * (3 / width**0.5)
    near = states + 0.03 * drawn(rows, width, seed=2, dtype=torch.float32)
    h, w, g, v = (t.bfloat16() for t in (near, head, states, head))
    h.requires_grad_(), w.requires_grad_()
    exact = [t.detach().double() for t in (h, w, g, v)]
    exact[0].requires_grad_(), exact[1].requires_grad_()
    loss = soft_target(exact[0] @ exact[1].T, exact[2] @ exact[3].T, 1.0).mean()
    wanted = torch.autograd.grad(loss, exact[:2])

    def errors(value: Tensor) -> list[float]:
        found = torch.autograd.grad(value, (h, w))
        return [
            float((f.double() - t).norm() / t.norm()) for f, t in zip(found, wanted, strict=True)
        ]

    value = linear_divergence(h, w, g, v)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss.item(), rel=1e-4)
    assert max(errors(value)) < 2e-3
    log_q, log_p = F.log_softmax(h @ w.T, -1), F.log_softmax(g @ v.T, -1)
    assert min(errors(F.kl_div(log_q, log_p, log_target=True, reduction="batchmean"))) > 0.05


def test_autocast_leaves_the_tiles_alone() -> None:
    h, w, g, v = (t.detach().float().requires_grad_(t.requires_grad) for t in four())
    wanted = linear_divergence(h, w, g, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_divergence(h, w, g, v)
    assert torch.equal(found, wanted)


def test_masked_rows_are_not_computed() -> None:
    """Prompt and padding may hold anything, and cost nothing."""
    h, w, g, v = four()
    mask = torch.arange(ROWS) % 2 == 0
    wanted = linear_divergence(h[mask], w, g[mask], v)
    spoilt = torch.where(mask[:, None], g, torch.nan)
    torn = torch.where(mask[:, None], h.detach(), torch.inf).requires_grad_()
    found = linear_divergence(torn, w, spoilt, v, mask=mask)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    found.backward()
    assert torn.grad is not None
    assert torn.grad[mask].all()
    assert not torn.grad[~mask].any()
    assert bool(w.grad.isfinite().all())  # type: ignore[union-attr]


def test_an_empty_answer_gives_zero() -> None:
    h, w, g, v = four()
    found = linear_divergence(h, w, g, v, mask=torch.zeros(ROWS).bool())
    found.backward()
    assert found.item() == 0
    for each in (h, w):
        assert each.grad is not None
        assert not each.grad.any()


def test_a_frozen_head_gets_no_gradient_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the head's size is formed: only the hidden states' gradient."""
    h, w, g, v = four()
    frozen = w.detach()
    made: list[tuple[int, ...]] = []
    zeros = torch.zeros_like

    def seen(like: Tensor, **options: object) -> Tensor:
        made.append(tuple(like.shape))
        return zeros(like, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "zeros_like", seen)
    (found,) = torch.autograd.grad(linear_divergence(h, frozen, g, v), h)
    assert frozen.shape not in made
    (wanted,) = torch.autograd.grad(linear_divergence(h, w, g, v), h)
    assert w.shape in made
    assert torch.equal(found, wanted)


def test_the_weights_gradient_can_go_straight_to_its_place() -> None:
    h, w, g, v = four()
    (wanted,) = torch.autograd.grad(5 * linear_divergence(h, w, g, v), w)
    w.grad = torch.ones_like(w)
    place = w.grad.data_ptr()
    (5 * linear_divergence(h, w, g, v, into_grad=5.0)).backward()
    assert w.grad.data_ptr() == place
    torch.testing.assert_close(w.grad, 1 + wanted, rtol=1e-11, atol=1e-14)
    loss = linear_divergence(h, w, g, v, into_grad=5.0)
    with pytest.raises(RecipeError, match="backward came with 1"):
        loss.backward()
    with pytest.raises(RecipeError, match="leave into_grad out"):
        linear_divergence(h, 2 * w, g, v, into_grad=1.0)
    before = w.grad.clone()
    with torch.no_grad():
        linear_divergence(h, w, g, v, into_grad=1.0)
    assert torch.equal(w.grad, before)


def test_a_gradient_that_is_handed_out_is_not_copied() -> None:
    """The weight's gradient exists once, also where the loss was scaled."""
    h, w, g, v = four()
    loss = linear_divergence(h, w, g, v) * 0.25
    held = loss.grad_fn.next_functions[0][0].held[1].data_ptr()  # type: ignore[union-attr]
    loss.backward()
    assert w.grad is not None
    assert w.grad.data_ptr() == held


def _head(**options: object) -> LinearHead:
    return LinearHead("feature", "feature", "head", "head", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"divergence": "alpha_beta", "temperature": 2.0, "tile_rows": 2},
        {"divergence": "js", "cross_entropy": 0.5},
    ],
)
def test_the_objective_keeps_the_contracts_with_options(options: dict[str, object]) -> None:
    for contract in objective_contracts(lambda: _head(**options)).values():
        contract()
    cross = "cross_entropy" in options
    objective = _head(**options)
    assert (objective.needs_targets, objective.divergence) == (cross, not cross)


def test_the_objective_is_the_function_on_the_borrowed_heads() -> None:
    h, w, g, v = four()
    ours, theirs = torch.nn.Linear(WIDE, CLASSES), torch.nn.Linear(WIDE + 3, CLASSES, bias=False)
    ours.weight, theirs.weight = torch.nn.Parameter(w.detach()), torch.nn.Parameter(v)
    labels, mask = torch.arange(ROWS), torch.arange(ROWS) > 2
    objective = _head(cross_entropy=0.5, divergence="reverse", temperature=2.0)
    objective.borrow({"head": ours.double()}, {"head": theirs})
    none = torch.zeros(ROWS, 1)
    batch = Batch(none, targets=labels, mask=mask)
    terms = objective(Outputs(none, {"feature": h}), Outputs(none, {"feature": g}), batch)
    wanted = linear_divergence(
        h,
        w,
        g,
        v,
        student_bias=ours.bias,
        labels=labels,
        mask=mask,
        cross_entropy=0.5,
        divergence="reverse",
        temperature=2.0,
    )
    assert terms["linear_head"].item() == wanted.item()


def test_a_head_with_something_inside_is_refused() -> None:
    """Its weight alone would leave LoRA's part out without a word."""
    lora = torch.nn.Linear(WIDE, CLASSES)
    lora.lora_A = torch.nn.Linear(WIDE, 2)
    h, _, g, v = four()
    objective = _head()
    plain = torch.nn.Linear(WIDE + 3, CLASSES)
    objective.borrow({"head": lora}, {"head": plain})
    outputs = Outputs(v, {"feature": h}), Outputs(v, {"feature": g})
    with pytest.raises(RecipeError, match="lora_A inside: merge it"):
        objective(*outputs, Batch(torch.zeros(ROWS, 1)))
    with pytest.raises(RecipeError, match="named by path"):
        LinearHead("", "feature", "head", "head")
