"""Networks with additions: all that make or read a unit lose it, and the rest is refused."""

import sys

import pytest
import torch
from compression_samples import drawn, trained, validation
from torch import nn

from tutelage.compression import prune
from tutelage.core.errors import ModelError, NotInstalled
from tutelage.evaluation.costs.macs import macs
from tutelage.models import Observed, build_model

pytest.importorskip("torch_pruning", reason="torch-pruning (extra compress) is not installed")

NETS = {
    "zeros in shortcuts": {"resnet": {"depth": 8}},
    "weights in shortcuts": {"resnet": {"depth": 8, "shortcut": "b"}},
    "activation first": "wrn_16_1",
    "channel by channel": {"mobilenetv2": {"multiplier": 0.25, "expansion": 2}},
}


def made(name):
    return drawn(NETS[name])


@pytest.mark.parametrize("name", NETS)
def test_tensors_shrink_and_the_model_is_left_as_it_was(name):
    model, check = made(name), validation(0, 20)
    model.model.requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    smaller, change = prune(model, check, share=0.5)
    assert all(torch.equal(before[key], each) for key, each in model.state_dict().items())
    assert change.parameters_after == sum(p.numel() for p in smaller.parameters())
    inner = name == "zeros in shortcuts"  # there the trunk keeps its width
    assert change.parameters_after < change.parameters_before * (0.55 if inner else 0.35)
    assert change.macs_before == macs(model, check)
    assert change.macs_after == macs(smaller, check) < 0.6 * change.macs_before
    for path, each in change.details.items():
        assert len(smaller.model.get_submodule(path).weight) == each["units_after"]
        assert each["units_after"] == each["units_before"] // 2
    assert smaller.model.linear.out_features == 10
    assert not any(parameter.requires_grad for parameter in smaller.parameters())
    for module in smaller.modules():
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups)
            assert module.weight.shape[:2] == shape


def test_layers_that_are_added_lose_the_same_units_and_silent_ones_go_first():
    model = made("weights in shortcuts")
    stem, block = model.model.conv1, model.model.layer1[0]
    last, more = block.conv2, model.model.bn1
    quiet = [0, 3, 5, 6, 9, 10, 12, 15]
    with torch.no_grad():
        for layer in (stem, last):
            layer.weight[quiet] *= 1e-4
        for norm in (more, block.bn2):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                tensor[quiet] = 0
    smaller, change = prune(model, validation(0, 30), share=0.5)
    kept = [row for row in range(16) if row not in quiet]
    assert torch.equal(smaller.model.conv1.weight, stem.weight[kept])
    assert torch.equal(smaller.model.layer1[0].bn2.bias, block.bn2.bias[kept])
    assert change.details["conv1"] == {"units_before": 16, "units_after": 8}


@pytest.mark.parametrize("importance", ["l2", "gamma"])
def test_importance_is_summed_over_the_layers_that_make_a_unit(importance):
    model = made("weights in shortcuts")
    first, second = model.model.conv1, model.model.layer1[0].conv2
    if importance == "l2":
        squares = [each.weight.detach().flatten(1).square().sum(1) for each in (first, second)]
    else:
        norms = (model.model.bn1, model.model.layer1[0].bn2)
        squares = [each.weight.detach().abs() for each in norms]
    best = (squares[0] + squares[1]).topk(8).indices.sort().values
    smaller, _ = prune(model, validation(0, 4), importance=importance)
    assert torch.equal(smaller.model.conv1.weight, first.weight[best])


def test_a_trained_residual_network_is_pruned_and_measured():
    model, check = trained({"resnet": {"depth": 8, "width": 8}}, steps=80), validation(0, 300)
    smaller, change = prune(model, check, share=0.25)
    assert change.agreement.accuracy_before > 0.3
    right = (smaller(check).logits.argmax(-1) == check.targets).double().mean().item()
    assert change.agreement.accuracy_after == pytest.approx(right)
    assert smaller(check).logits.requires_grad  # it can be healed


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(28, 8) for _ in range(3))
        self.out = nn.Linear(8, 28)

    def forward(self, x):
        weights = (self.query(x) @ self.key(x).transpose(-2, -1)).softmax(-1)
        return x + self.out(weights @ self.value(x))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 784)

    def forward(self, x):
        return self.layer(self.layer(x)) + x


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.MultiheadAttention(28, 2, batch_first=True)

    def forward(self, x):
        return x + self.heads(x, x, x)[0]


GROUPS = (nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2))
HEAD = (nn.Flatten(), nn.Linear(784, 10))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Flatten(1, 2), Attention(), *HEAD), "what they seem|cannot be followed"),
        (nn.Sequential(nn.Flatten(), Twice(), nn.Linear(784, 10)), "runs a layer twice"),
        (nn.Sequential(*GROUPS, nn.Conv2d(4, 1, 1), *HEAD), "grouped conv"),
        (nn.Sequential(nn.Flatten(1, 2), Heads(), *HEAD), "is a MultiheadAttention"),
        (build_model("gru", classes=10, shape=(1, 28, 28)), "is a GRU: only networks of"),
        (build_model("convnext", classes=10, shape=(1, 28, 28)), "is a _MapNorm: only networks"),
        (build_model("shufflenetv2", classes=10, shape=(1, 28, 28)), "cannot be followed"),
    ],
)
def test_what_cannot_be_proved_is_refused_in_one_line(net, words):
    with pytest.raises(ModelError, match=words) as caught:
        prune(Observed(net.eval()), validation(0, 4))
    assert "\n" not in str(caught.value)


def test_without_torch_pruning_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(NotInstalled, match=r"tutelage\[compress\]"):
        prune(made("zeros in shortcuts"), validation(0, 4))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050"])
def test_models_of_timm_shrink_too(name):
    pytest.importorskip("timm")
    net = build_model(f"timm:{name}", classes=10, shape=(3, 32, 32))
    check = validation(0, 4)
    check.inputs = check.inputs.expand(-1, 3, -1, -1)
    _, change = prune(Observed(net.eval()), check)
    assert change.parameters_after < 0.5 * change.parameters_before
