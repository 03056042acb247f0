"""Layers in two: exact at full rank, as near as any of their rank, and honest about it."""

import numpy as np
import pytest
import torch
from compression_samples import trained, validation
from torch import nn

from tutelage.compression import factorise, low_rank
from tutelage.core.errors import ModelError, RecipeError
from tutelage.models import Observed

LAYERS = {
    "linear": (lambda: nn.Linear(12, 7), (9, 12)),
    "no bias": (lambda: nn.Linear(7, 12, bias=False), (9, 7)),
    "conv": (lambda: nn.Conv2d(6, 10, 1, stride=2, padding=1), (3, 6, 5, 5)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_at_full_rank_two_layers_are_the_one(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, x = make(), torch.randn(shape)
    full = min(layer.weight.flatten(1).shape)
    found = factorise(layer, rank=full)
    assert torch.allclose(found.layers(x), layer(x), atol=1e-5)
    assert found.relative_error < 1e-6
    assert (found.layers[0].bias is None, found.rank) == (True, full)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_error_is_that_of_eckart_and_young(kind, rank):
    torch.manual_seed(1)
    layer = LAYERS[kind][0]()
    weight = layer.weight.detach().flatten(1).double().numpy()
    values = np.linalg.svd(weight, compute_uv=False)
    found = factorise(layer, rank=rank)
    assert found.error == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-6)
    assert found.relative_error == pytest.approx(found.error / np.linalg.norm(weight), rel=1e-9)
    one, two = (each.weight.detach().flatten(1).double().numpy() for each in found.layers)
    assert found.error == pytest.approx(np.linalg.norm(weight - two @ one), rel=1e-9)


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.64, 1), (0.7, 2), (0.96, 2), (1.0, 3)])
def test_energy_is_the_share_of_squares_that_is_kept(energy, rank):
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([8.0, 5.7, 1.8])))  # 64, 32.5 and 3.2 of 99.7
    assert factorise(layer, energy=energy).rank == rank


@pytest.mark.parametrize(
    ("layer", "options", "kind", "words"),
    [
        (nn.Linear(4, 3), {"rank": 4}, RecipeError, "from 1 to 3, got 4"),
        (nn.Linear(4, 3), {"rank": 0}, RecipeError, "from 1 to 3, got 0"),
        (nn.Linear(4, 3), {}, RecipeError, "one of the two"),
        (nn.Linear(4, 3), {"rank": 1, "energy": 0.5}, RecipeError, "one of the two"),
        (nn.Linear(4, 3), {"energy": 1.5}, RecipeError, "got 1.5"),
        (nn.Conv2d(4, 3, 3), {"rank": 1}, ModelError, "a Conv2d cannot be factorised"),
        (nn.Conv2d(4, 4, 1, groups=2), {"rank": 1}, ModelError, "one group"),
        (nn.ReLU(), {"rank": 1}, ModelError, "a ReLU cannot be factorised"),
    ],
)
def test_what_cannot_be_is_one_line(layer, options, kind, words):
    with pytest.raises(kind, match=words) as caught:
        factorise(layer, **options)
    assert "\n" not in str(caught.value)


def test_a_weight_with_nan_has_no_factors():
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, torch.nan)
    with pytest.raises(ModelError, match="NaN"):
        factorise(layer, rank=1)


@pytest.fixture(scope="module")
def net():
    return trained({"mlp": {"hidden": [256, 128]}}, steps=100)


def test_a_model_shrinks_where_it_helps_and_its_loss_is_measured(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    check = validation(0, 500)
    smaller, change = low_rank(net, check, energy=0.7)
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())
    assert change.parameters_after == sum(p.numel() for p in smaller.parameters())
    assert change.parameters_after < change.parameters_before
    assert change.times_smaller > 1.2
    assert change.agreement.accuracy_before > 0.7
    logits = smaller(check).logits
    assert change.agreement.accuracy_after == pytest.approx(
        (logits.argmax(-1) == check.targets).double().mean().item()
    )
    for path, each in change.details.items():
        assert smaller.model.get_submodule(path)[0].out_features == each["rank"]
        assert each["relative_error"] ** 2 <= 0.3 + 1e-6


def test_more_energy_keeps_more(net):
    check = validation(0, 200)
    little, much = (low_rank(net, check, energy=energy)[1] for energy in (0.3, 0.75))
    assert little.parameters_after < much.parameters_after
    assert little.agreement.max_difference > much.agreement.max_difference


def test_layers_that_share_or_do_not_match_are_left(net):
    _, change = low_rank(net, validation(0, 50), energy=0.5, layers="layer1*")
    assert list(change.details) == ["layer1.0"]
    with pytest.raises(RecipeError, match="no layer that can be factorised matches 'layr1'"):
        low_rank(net, validation(0, 50), layers="layr1")
    with pytest.raises(ModelError, match="becomes smaller at energy 1"):
        low_rank(net, validation(0, 50), energy=1.0, layers="linear")
    twin = nn.Linear(10, 10)
    shared = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), twin, twin)
    _, change = low_rank(Observed(shared), validation(0, 50), energy=0.1)
    assert list(change.details) == ["1"]
