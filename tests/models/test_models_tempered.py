"""A divided model: its answers, its features, its export, its copies."""

import copy

import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.core.seeds import generator
from tutelage.deployment import export_onnx
from tutelage.models import (
    Intake,
    Observed,
    save_weights,
    temperature_of,
    tempered,
    weights_hash,
)


def network(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    return Observed(net, intake=Intake(0.3, 0.2), **options).eval()


def images(total=12):
    return Batch(torch.rand(total, 1, 8, 8, generator=generator(0, "images")))


@pytest.mark.parametrize("classes", [None, [2, 0, 1]])
def test_logits_are_divided_and_answers_stay(classes):
    plain = network(classes=classes)
    divided = tempered(plain, 2.5)
    before, after = plain(images()).logits, divided(images()).logits
    assert torch.allclose(after * 2.5, before, atol=1e-6)
    assert torch.equal(after.argmax(-1), before.argmax(-1))


def test_the_model_given_is_not_changed_and_weights_are_shared():
    plain = network()
    mode, before = plain.training, weights_hash(plain.model)
    divided = tempered(plain, 3.0)
    assert (plain.training, divided.training) == (mode, mode)
    assert not any(module.training for module in divided.modules())
    assert divided.model is plain.model
    assert weights_hash(divided.model) == before
    assert not torch.allclose(divided(images()).logits, plain(images()).logits)


def test_features_can_still_be_tapped_and_copies_stay_divided():
    divided = tempered(network(), 3.0).tap(["1"])
    assert divided(images())["1"].shape == (12, 4, 6, 6)
    assert torch.equal(copy.deepcopy(divided)(images()).logits, divided(images()).logits)


def test_channels_last_stays():
    plain = network()
    plain.use_channels_last()
    assert tempered(plain, 2.0).channels_last


def test_an_exported_file_divides_too(tmp_path):
    import onnxruntime

    plain = network(classes=[1, 2, 0])
    parity = export_onnx(tempered(plain, 2.0), images(), tmp_path / "student.onnx")
    assert parity.equal_top1 == 1
    session = onnxruntime.InferenceSession(
        str(tmp_path / "student.onnx"), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"inputs": images().inputs.numpy()})[0]
    assert torch.allclose(torch.from_numpy(found), plain(images()).logits.detach() / 2, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(value):
    with pytest.raises(ModelError, match="above 0"):
        tempered(network(), value)


def test_a_file_of_weights_says_its_temperature(tmp_path):
    path = tmp_path / "student.safetensors"
    save_weights(network().model, path)
    assert temperature_of(path) == 1.0
    save_weights(network().model, path, metadata={"temperature": repr(1.2345678901234567)})
    assert temperature_of(path) == 1.2345678901234567
    for broken in ("hot", "-1", "nan"):
        save_weights(network().model, path, metadata={"temperature": broken})
        with pytest.raises(ModelError, match="temperature"):
            temperature_of(path)
