"""Fewer units: smaller tensors that answer as if the others were silent; the rest is refused."""

import pytest
import torch
from compression_samples import drawn, shipped, trained, validation
from torch import nn

from tutelage.compression import prune
from tutelage.compression.chain import links_of
from tutelage.core.errors import ModelError, RecipeError
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.models import Observed

NETS = {
    "mlp": {"mlp": {"hidden": [40, 20]}},
    "lenet": {"lenet": {"width": 2}},
    "vgg": {"vgg": {"widths": [8, 16], "per_stage": 2}},
}


def made(name):
    return drawn(NETS[name])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("share", [0.25, 0.9])
def test_tensors_shrink_and_the_model_is_left_as_it_was(name, share):
    model = made(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    smaller, change = prune(model, validation(0, 30), share=share)
    assert all(torch.equal(before[key], each) for key, each in model.state_dict().items())
    units = {path: each["units_after"] for path, each in change.details.items()}
    for path, left in units.items():
        layer, old = smaller.model.get_submodule(path), model.model.get_submodule(path)
        assert len(layer.weight) == left == len(old.weight) - int(share * len(old.weight))
    assert change.parameters_after == sum(p.numel() for p in smaller.parameters())
    assert change.bytes_after < change.bytes_before * (1 - share)
    assert smaller(validation(0, 3)).logits.shape == (3, 10)


def test_units_that_do_nothing_go_first_and_nothing_changes():
    model = made("lenet")
    layer, linear = model.model.layer2[0], model.model.layer3[0]
    with torch.no_grad():
        layer.weight[[1, 4, 7, 20]] = 0
        layer.bias[[1, 4, 7, 20]] = 0
        linear.weight[:60], linear.bias[:60] = 0, 0
        model.model.layer1[0].weight[3], model.model.layer1[0].bias[3] = 0, 0
        model.model.layer4[0].weight[:21], model.model.layer4[0].bias[:21] = 0, 0
    _, change = prune(model, validation(0, 50), share=0.125)  # 1 of 12, 4 of 32, 30 of 240, 21
    assert change.agreement.max_difference < 1e-5
    assert change.agreement.equal_top1 == 1


def test_gamma_chooses_by_the_normalisation():
    model = made("vgg")
    norm = model.model.layer1[1]
    with torch.no_grad():
        norm.weight[[0, 2, 5, 6]] = 0.01
    smaller, _ = prune(model, validation(0, 10), importance="gamma")
    assert torch.equal(smaller.model.layer1[1].weight, norm.weight[[1, 3, 4, 7]])
    assert torch.equal(smaller.model.layer1[1].running_var, norm.running_var[[1, 3, 4, 7]])
    with pytest.raises(ModelError, match="gamma says nothing"):
        prune(made("lenet"), validation(0, 10), importance="gamma")


def test_l1_and_l2_choose_by_the_size_of_weights():
    layer = nn.Linear(784, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0] = 10  # sum 10, root of squares 10
        layer.weight[1, :400] = 0.04  # sum 16, root of squares 0.8
    model = Observed(nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(2, 10)))
    for importance, row in (("l1", 1), ("l2", 0)):
        smaller, _ = prune(model, validation(0, 5), importance=importance)
        assert torch.equal(smaller.model[1].weight, layer.weight[[row]])


@pytest.mark.parametrize("importance", ["l1", "l2", "gamma"])
def test_weights_that_lie_channels_last_are_pruned_alike(importance):
    batch, plain, moved = validation(0, 20), made("vgg"), made("vgg")
    moved.model.to(memory_format=torch.channels_last)
    one, _ = prune(plain, batch, importance=importance)
    two, _ = prune(moved, batch, importance=importance)
    torch.testing.assert_close(two(batch).logits, one(batch).logits)


def test_units_are_left_in_multiples():
    _, change = prune(made("mlp"), validation(0, 5), share=0.7, multiple=8)
    assert [each["units_after"] for each in change.details.values()] == [16, 8]


def test_a_trained_network_is_pruned_measured_healed_and_exported(tmp_path):
    model, check = trained({"lenet": {"width": 2}}), validation(0, 500)
    smaller, change = prune(model, check, share=0.5)
    assert change.times_smaller > 3
    assert change.agreement.accuracy_loss.mean == pytest.approx(
        change.agreement.accuracy_before - change.agreement.accuracy_after
    )
    healed = _healed(smaller)
    accuracy = (healed(check).logits.argmax(-1) == check.targets).double().mean().item()
    assert accuracy > change.agreement.accuracy_after
    assert accuracy > 0.65
    path = shipped(healed, tmp_path / "small.onnx")
    assert torch.allclose(OnnxModel(path)(check).logits, healed(check).logits, atol=1e-4)


def _healed(model):
    from compression_samples import splits

    train = splits().train
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(60):
        rows = torch.randint(len(train), (64,))
        logits = model(train.batch(rows)).logits
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, train.targets[rows]).backward()
        optimizer.step()
    return model


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.layer(x)


class Odd(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


TWICE = nn.Linear(8, 8)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Linear(8, 8), Residual(), nn.Linear(8, 3)), "'1' is a Residual"),
        (Odd(nn.Linear(8, 8), nn.Linear(8, 3)), "'the model' is a Odd"),
        (nn.Sequential(TWICE, TWICE), "runs a layer twice"),
        (nn.Sequential(TWICE, nn.Sequential(TWICE)), "shares its weights"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=4), nn.Flatten()), "grouped convolution"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Linear(4, 3)), "cannot be told"),
        (nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 3)), "is a Softmax"),
        (nn.Sequential(nn.Linear(8, 8), nn.MaxPool2d(1), nn.Linear(8, 3)), "cannot be followed"),
        (nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(4), nn.Linear(8, 3)), "cannot be followed"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(2), nn.Linear(4, 3)), "cannot be followed"),
    ],
)
def test_what_cannot_be_proved_is_refused_in_one_line(net, words):
    with pytest.raises(ModelError, match=words) as caught:
        links_of(net)
    assert "\n" not in str(caught.value)


def test_hooks_are_refused():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    net[0].register_forward_hook(lambda module, given, out: out.flip(-1))
    with pytest.raises(ModelError, match="has hooks"):
        links_of(net)
    with pytest.raises(ModelError, match="has hooks"):
        prune(Observed(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), net)), validation(0, 4))


def test_a_chain_that_is_none_after_all_is_caught_by_its_answers():
    """A linear layer on (N, 28, 28) seems to have 28 units that a normalisation of 28 follows."""
    net = nn.Sequential(
        nn.Identity(), nn.Linear(28, 28), nn.BatchNorm1d(28), nn.Flatten(), nn.Linear(784, 10)
    )
    nn.init.uniform_(net[2].weight, 0.1, 3)
    model = Observed(net.eval(), intake=nn.Flatten(1, 2))
    with pytest.raises(ModelError, match="not what they seem"):
        prune(model, validation(0, 8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0}, "above 0 and below 1, got 0"),
        ({"share": 1.0}, "above 0 and below 1, got 1.0"),
        ({"share": "half"}, "got 'half'"),
        ({"importance": "l11"}, "Did you mean 'l1'"),
        ({"multiple": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_options_are_one_line(options, words):
    with pytest.raises(RecipeError, match=words) as caught:
        prune(made("mlp"), validation(0, 4), **options)
    assert "\n" not in str(caught.value)


def test_a_model_with_one_layer_has_nothing_to_take_out():
    model = Observed(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    with pytest.raises(ModelError, match="no units to take out"):
        prune(model, validation(0, 4))
