"""The one-pass linear head against its equations, in plain numpy and through full logits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from objectives_shared import Array, kl, noise, softmax
from torch import Tensor

import tutelage.objectives as room
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch
from tutelage.objectives import DIVERGENCES, linear_divergence, mass_beyond

UNITS, CLASSES, OURS, THEIRS = 7, 9, 4, 6
OPTIONS: dict[str, dict[str, float]] = {
    "forward": {},
    "reverse": {},
    "js": {"beta": 0.3},
    "skew": {"alpha": 0.2},
    "skew_reverse": {"alpha": 0.2},
    "alpha_beta": {"alpha": 0.7, "beta": 0.4},
}


def _alpha_beta(p: Array, q: Array, a: float, b: float) -> float:
    both = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
    return float(-both.sum() / (a * b))


EQUATIONS: dict[str, Callable[[Array, Array], float]] = {
    "forward": kl,
    "reverse": lambda p, q: kl(q, p),
    "js": lambda p, q: 0.3 * kl(p, 0.3 * p + 0.7 * q) + 0.7 * kl(q, 0.3 * p + 0.7 * q),
    "skew": lambda p, q: kl(p, 0.2 * p + 0.8 * q),
    "skew_reverse": lambda p, q: kl(q, 0.2 * q + 0.8 * p),
    "alpha_beta": lambda p, q: _alpha_beta(p, q, 0.7, 0.4),
}

LOGITS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "forward": room.soft_target,
    "reverse": room.reverse_kl,
    "js": lambda s, t, heat: room.jensen_shannon(s, t, 0.3, heat),
    "skew": lambda s, t, heat: room.skew_kl(s, t, 0.2, heat),
    "skew_reverse": lambda s, t, heat: room.skew_reverse_kl(s, t, 0.2, heat),
    "alpha_beta": lambda s, t, heat: room.alpha_beta(s, t, 0.7, 0.4, heat),
}


def heads() -> dict[str, Tensor]:
    """Student's and teacher's states, heads and biases, in fp64."""
    shapes = {
        "student_hidden": (UNITS, OURS),
        "student_weight": (CLASSES, OURS),
        "teacher_hidden": (UNITS, THEIRS),
        "teacher_weight": (CLASSES, THEIRS),
        "student_bias": (CLASSES,),
        "teacher_bias": (CLASSES,),
    }
    drawn = {
        name: torch.from_numpy(noise(*shape, seed=seed))
        for seed, (name, shape) in enumerate(shapes.items())
    }
    return {
        name: t.requires_grad_() if name.startswith("student") else t for name, t in drawn.items()
    }


def learning(given: dict[str, Tensor]) -> list[Tensor]:
    return [t for t in given.values() if t.requires_grad]


def logits_of(given: dict[str, Tensor], whose: str) -> Tensor:
    return given[f"{whose}_hidden"] @ given[f"{whose}_weight"].T + given[f"{whose}_bias"]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_value_is_the_equation(name: str) -> None:
    given, heat = heads(), 1.6
    ours, theirs = (logits_of(given, whose).detach().numpy() for whose in ("student", "teacher"))
    labels = np.array([0, 3, -1, 8, 2, 2, -5])
    wanted = 0.0
    for i in range(UNITS):
        p, q = softmax(theirs[i] / heat), softmax(ours[i] / heat)
        hard = -np.log(softmax(ours[i])[labels[i]]) if labels[i] >= 0 else 0.0
        wanted += (heat**2 * EQUATIONS[name](p, q) + 0.4 * hard) / UNITS
    found = linear_divergence(
        **given,  # type: ignore[arg-type]
        divergence=name,
        temperature=heat,
        labels=torch.from_numpy(labels),
        cross_entropy=0.4,
        tile_rows=3,
        **OPTIONS[name],
    )
    assert found.item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("heat", [1.0, 1.7])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradient_is_that_through_full_logits(name: str, heat: float) -> None:
    given = heads()
    mask = torch.tensor([1, 1, 0, 1, 1, 0, 1]).bool()
    weights = torch.tensor([1.0, 0.5, 3.0, 0.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    labels = torch.tensor([0, 3, 4, 8, -1, 2, 5])
    ours = logits_of(given, "student")
    each = LOGITS[name](ours, logits_of(given, "teacher"), heat)
    each = each + 0.4 * room.cross_entropy(ours, labels)
    wanted = (each * weights * mask).sum() / mask.sum()
    found = linear_divergence(
        **given,  # type: ignore[arg-type]
        divergence=name,
        temperature=heat,
        mask=mask,
        weights=weights,
        labels=labels,
        cross_entropy=0.4,
        tile_rows=2,
        **OPTIONS[name],
    )
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    true = torch.autograd.grad(wanted, learning(given))
    for ours, theirs in zip(torch.autograd.grad(found, learning(given)), true, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    given = heads()
    fixed = {key: t for key, t in given.items() if not t.requires_grad}

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_divergence(
            hidden,
            weight,
            student_bias=bias,
            divergence=name,
            tile_rows=4,
            **fixed,
            **OPTIONS[name],
        )  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, tuple(learning(given)))


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (0, 1), (0, 0), (0.5, -0.5), (-0.3, 1.2)])
def test_alpha_beta_has_its_limits(alpha: float, beta: float) -> None:
    given = heads()
    ours, theirs = logits_of(given, "student"), logits_of(given, "teacher")
    wanted = room.alpha_beta(ours, theirs, alpha, beta, 1.0).mean()
    options = {"divergence": "alpha_beta", "alpha": alpha, "beta": beta}
    found = linear_divergence(**given, **options)  # type: ignore[arg-type]
    for ours, theirs in zip(
        torch.autograd.grad(found, learning(given)),
        torch.autograd.grad(wanted, learning(given)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_tokens_of_sequences_are_units() -> None:
    given = heads()
    flat = linear_divergence(**given, mask=torch.arange(7) < 6)  # type: ignore[arg-type]
    folded = {
        name: t[:6].unflatten(0, (2, 3)) if "hidden" in name else t for name, t in given.items()
    }
    assert linear_divergence(**folded).item() == pytest.approx(flat.item(), rel=1e-12)  # type: ignore[arg-type]
    first = linear_divergence(**folded, mask=torch.tensor([True, False]))  # type: ignore[arg-type]
    three = linear_divergence(**given, mask=torch.arange(7) < 3)  # type: ignore[arg-type]
    assert first.item() == pytest.approx(three.item(), rel=1e-12)


def test_a_retained_graph_answers_twice_the_same() -> None:
    given = heads()
    loss = linear_divergence(**given)  # type: ignore[arg-type]
    once = torch.autograd.grad(3 * loss, learning(given), retain_graph=True)
    again = torch.autograd.grad(3 * loss, learning(given))
    for first, second in zip(once, again, strict=True):
        assert torch.equal(first, second)
        assert first.data_ptr() != second.data_ptr()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_mass_beyond_is_the_softmax_beyond() -> None:
    hidden, weight, bias = noise(5, 3), noise(11, 3, seed=1), noise(11, seed=2)
    wanted = [softmax(row)[8:].sum() for row in hidden @ weight.T + bias]
    tensors = [torch.from_numpy(x) for x in (hidden, weight, bias)]
    found = mass_beyond(tensors[0], tensors[1], 8, tensors[2])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)
    assert mass_beyond(tensors[0], tensors[1], 11).tolist() == [0.0] * 5


BAD: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"divergence": "revers"}, RecipeError, "Did you mean 'reverse'"),
    ({"divergence": "forward", "beta": 0.5}, RecipeError, "has no option 'beta'"),
    ({"divergence": "js", "beta": 1.0}, RecipeError, "the ends are 'forward'"),
    ({"divergence": "skew", "alpha": 1.0}, RecipeError, "0 everywhere"),
    ({"temperature": 0.0}, RecipeError, "greater than 0"),
    ({"tile_rows": 0}, RecipeError, "whole number of at least 1"),
    ({"count": 0}, RecipeError, "count"),
    ({"vocabulary": 10}, ShapeMismatch, "2 to 9 can be compared"),
    ({"vocabulary": 1}, ShapeMismatch, "2 to 9 can be compared"),
    ({"mask": torch.ones(7, 2).bool()}, ShapeMismatch, "one entry for each unit"),
    ({"weights": torch.ones(3)}, ShapeMismatch, "one for each unit"),
    ({"student_bias": torch.zeros(3)}, ShapeMismatch, "student's bias"),
    ({"teacher_weight": torch.zeros(9, 5)}, ShapeMismatch, "teacher's head"),
    ({"teacher_hidden": torch.zeros(8, 6).double()}, ShapeMismatch, "same units"),
    ({"cross_entropy": 1.0}, DataError, "needs targets"),
    ({"cross_entropy": 1.0, "labels": torch.full((7,), 9)}, DataError, "class number 9"),
    ({"labels": torch.zeros(7).long()}, RecipeError, "cross_entropy, their weight, is 0"),
)


@pytest.mark.parametrize(("options", "error", "said"), BAD)
def test_wrong_input_is_one_line(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        linear_divergence(**{**heads(), **options})
    assert "\n" not in str(caught.value)
