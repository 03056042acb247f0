"""Adapters: any student feature of a known kind gets the shape of any teacher's."""

from itertools import product

import pytest
import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import build, names
from tutelage.objectives.adapters import (
    choose,
    conv1x1,
    identity,
    linear,
    map_to_token,
    pool,
    spatial,
    spread,
    token,
    token_to_map,
)
from tutelage.objectives.adapters.shapes import grid_of, resize

SHAPES = {
    "vector": (2, 6),
    "sequence": (2, 7, 6),
    "patches": (2, 16, 6),
    "class token and patches": (2, 17, 6),
    "two tokens and patches": (2, 66, 6),
    "map": (2, 6, 8, 8),
    "small map": (2, 6, 2, 2),
    "wide map": (2, 6, 4, 10),
    "pooled map": (2, 6, 1, 1),
}
NO_WAY = {("sequence", each) for each in SHAPES if each.endswith("map")} | {
    (each, "sequence") for each in SHAPES if each.endswith("map")
}


@pytest.mark.parametrize(("ours", "theirs"), list(product(SHAPES, SHAPES)))
def test_auto_leads_from_each_kind_of_feature_to_each_or_says_why_not(
    ours: str, theirs: str
) -> None:
    student = torch.randn(SHAPES[ours])
    n, *rest = SHAPES[theirs]
    rest[0 if len(rest) != 2 else 1] = 9  # another width
    teacher = torch.randn(n, *rest)
    if (ours, theirs) in NO_WAY:
        with pytest.raises(ShapeMismatch, match=r"7 tokens are no square grid"):
            choose(student, teacher)
        return
    adapter = choose(student, teacher)
    adapted = adapter(student)
    assert adapted.shape == teacher.shape
    gradients = torch.autograd.grad(adapted.square().mean(), list(adapter.parameters()))
    assert gradients
    assert all(bool(gradient.any()) for gradient in gradients)
    assert adapter(student[:1]).shape == teacher[:1].shape  # any batch size


@pytest.mark.parametrize(("ours", "theirs"), [((2, 3, 4, 5, 6), (2, 6)), ((2,), (2, 6))])
def test_auto_explains_what_it_cannot_lead_anywhere(
    ours: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeMismatch, match=r"no adapter leads from .* must be vectors \(N, D\)"):
        choose(torch.zeros(ours), torch.zeros(theirs))


def test_auto_takes_a_plain_convolution_where_sizes_agree() -> None:
    same = choose(torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, 8, 8))
    assert isinstance(same, torch.nn.Conv2d)
    assert same.kernel_size == (1, 1)


def test_every_registered_adapter_starts_from_torchs_seed() -> None:
    fitting: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "auto": ((2, 3), (2, 4)),
        "conv1x1": ((2, 3, 4, 4), (2, 5, 4, 4)),
        "conv_bn": ((2, 3, 8, 8), (2, 5, 4, 4)),
        "cross_attention": ((2, 16, 3), (2, 17, 5)),
        "linear": ((2, 3), (2, 4)),
        "mlp": ((2, 3), (2, 4)),
        "orthogonal": ((2, 3), (2, 4)),
        "map_to_steps": ((2, 3, 8, 4), (2, 7, 5)),
        "map_to_token": ((2, 3, 4, 4), (2, 17, 5)),
        "pool": ((2, 3, 4, 4), (2, 5)),
        "spatial": ((2, 3, 8, 8), (2, 5, 4, 4)),
        "spread": ((2, 3), (2, 5, 4, 4)),
        "steps_to_map": ((2, 7, 3), (2, 5, 8, 4)),
        "token": ((2, 16, 3), (2, 17, 5)),
        "token_to_map": ((2, 17, 3), (2, 5, 4, 4)),
    }
    assert set(names("adapter")) == {*fitting, "identity"}
    for name, (ours, theirs) in fitting.items():
        made = []
        for _ in range(2):
            torch.manual_seed(5)
            made.append(
                build("adapter", name, student=torch.ones(ours), teacher=torch.ones(theirs))
            )
        x = torch.randn(ours)
        assert torch.equal(made[0](x), made[1](x)), name


@pytest.mark.parametrize(
    ("adapter", "ours", "theirs"),
    [
        (conv1x1, (2, 3), (2, 4, 5, 5)),
        (spatial, (2, 3, 4, 4), (2, 4)),
        (token, (2, 3, 4, 4), (2, 4, 5)),
        (token_to_map, (2, 3, 4, 4), (2, 3, 4, 4)),
        (map_to_token, (2, 3, 4), (2, 3, 4)),
        (pool, (2, 3), (2, 4)),
        (pool, (2, 3, 4), (2, 4, 5)),
        (spread, (2, 3, 4), (2, 4, 5)),
        (spread, (2, 3), (2, 4)),
    ],
)
def test_an_adapter_named_for_the_wrong_kind_says_what_it_needs(
    adapter: object, ours: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    assert callable(adapter)
    with pytest.raises(ShapeMismatch, match=r"^adapter '.*' needs .* and got .*: use adapter auto"):
        adapter(torch.zeros(ours), torch.zeros(theirs))


def test_identity_is_for_equal_shapes() -> None:
    x = torch.randn(2, 3)
    assert identity(x, x)(x) is x
    with pytest.raises(ShapeMismatch, match=r"\(2, 3\) must have the teacher's shape \(2, 4\)"):
        identity(x, torch.zeros(2, 4))


def test_a_bias_may_be_left_out() -> None:
    assert [
        p.ndim for p in linear(torch.zeros(2, 3), torch.zeros(2, 4), bias=False).parameters()
    ] == [2]


def test_spatial_adapts_the_same_on_either_side_of_the_resize() -> None:
    shrinks = spatial(torch.zeros(1, 3, 8, 8), torch.zeros(1, 5, 4, 4))
    x = torch.randn(2, 3, 8, 8)
    by_hand = resize(shrinks.convolution(x), (4, 4))  # type: ignore[operator, union-attr]
    torch.testing.assert_close(shrinks(x), by_hand)


def test_a_shrinking_map_is_averaged_and_a_growing_one_keeps_its_plane() -> None:
    plane = torch.linspace(0, 7, 8).repeat(8, 1)[None, None]
    torch.testing.assert_close(resize(plane, (1, 4))[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    assert bool((resize(plane, (16, 16)).diff(dim=3) >= 0).all())


def test_class_tokens_stay_class_tokens_when_the_grid_changes() -> None:
    x = torch.randn(2, 1 + 16, 3)
    adapter = token(x, torch.zeros(2, 1 + 64, 3))
    with torch.no_grad():
        adapter.linear.weight.copy_(torch.eye(3))  # type: ignore[union-attr, operator]
        adapter.linear.bias.zero_()  # type: ignore[union-attr, operator]
    grown: Tensor = adapter(x)
    torch.testing.assert_close(grown[:, 0], x[:, 0])
    wanted = resize(x[:, 1:].transpose(1, 2).reshape(2, 3, 4, 4), (8, 8))
    torch.testing.assert_close(grown[:, 1:], wanted.flatten(2).transpose(1, 2))


def test_a_class_token_that_only_the_teacher_has_is_met_by_the_mean_patch() -> None:
    x = torch.randn(2, 16, 3)
    adapter = token(x, torch.zeros(2, 17, 5))
    adapted = adapter(x)
    torch.testing.assert_close(adapted[:, 0], adapted[:, 1:].mean(1))


def test_token_and_map_are_the_same_positions() -> None:
    feature = torch.randn(2, 3, 4, 4)
    tokens = feature.flatten(2).transpose(1, 2)
    torch.manual_seed(0)
    to_map = token_to_map(tokens, torch.zeros(2, 5, 4, 4))
    torch.manual_seed(0)
    plain = spatial(feature, torch.zeros(2, 5, 4, 4))
    torch.testing.assert_close(to_map(tokens), plain(feature))


def test_spreading_teaches_what_pooling_the_teacher_would() -> None:
    x, teacher = (
        torch.randn(4, 3, dtype=torch.float64),
        torch.randn(4, 5, 2, 2, dtype=torch.float64),
    )
    adapter = spread(x, teacher).double()
    weight = adapter.linear.weight  # type: ignore[union-attr]
    spread_out = (adapter(x) - teacher).square().mean()
    pooled = (adapter(x)[:, :, 0, 0] - teacher.mean((2, 3))).square().mean()
    ours, theirs = (torch.autograd.grad(each, weight)[0] for each in (spread_out, pooled))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("tokens", "like", "found"),
    [
        (196, None, ((14, 14), 0)),
        (197, None, ((14, 14), 1)),
        (198, None, ((14, 14), 2)),
        (1, None, None),
        (2, None, None),
        (13, None, None),
        (32, (4, 8), ((4, 8), 0)),
        (33, (4, 8), ((4, 8), 1)),
        (16, (4, 8), ((4, 4), 0)),
    ],
)
def test_the_grid_of_a_number_of_tokens(
    tokens: int, like: tuple[int, int] | None, found: tuple[tuple[int, int], int] | None
) -> None:
    assert grid_of(tokens, like) == found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("match", {"pairs": {"a": "a", "b": "b"}}),
        ("match_layers", {"student": ["a", "b"], "teacher": ["a", "b"]}),
        ("match_emd", {"student": ["a", "b"], "teacher": ["a", "b"]}),
        ("match_gumbel", {"student": ["a", "b"], "teacher": ["a", "b"], "distance": "mse"}),
    ],
)
def test_texts_of_another_length_than_the_probes_train_through_adapter_auto(
    name: str, options: dict[str, object]
) -> None:
    def texts(tokens: int, width: int, seed: int) -> Outputs:
        source = torch.Generator().manual_seed(seed)
        states = {path: torch.randn(3, tokens, width, generator=source) for path in "ab"}
        return Outputs(torch.zeros(3, 4), states)

    torch.manual_seed(0)
    objective = build("objective", name, {**options, "adapter": "auto"})
    objective.bind(texts(7, 4, 1), texts(7, 6, 2))
    for tokens in (7, 5, 9):
        student = texts(tokens, 4, 3).map(lambda t: t.requires_grad_())
        (value,) = objective(student, texts(tokens, 6, 4), Batch(torch.zeros(3, 1))).values()
        value.backward()
        reached = [p for path in "ab" for p in (student[path],)]
        assert all(each.grad is not None and bool(each.grad.any()) for each in reached)
    assert any(bool(p.grad.any()) for p in objective.parameters() if p.grad is not None)


def test_tokens_of_equal_numbers_are_mapped_one_by_one_whatever_their_number() -> None:
    adapter = token(torch.zeros(2, 16, 3), torch.zeros(2, 16, 5))
    x = torch.randn(2, 25, 3)
    weight, bias = (p.detach() for p in adapter.parameters())
    torch.testing.assert_close(adapter(x).detach(), x @ weight.T + bias)
