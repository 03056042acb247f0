import collections
import datetime
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.core.errors import ModelError
from tutelage.models import (
    build_model,
    load_weights,
    read_metadata,
    read_weights,
    save_weights,
    weights_hash,
)

DATA = Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def net(seed=0, out=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, out)
    )


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


class Tied(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


def test_saving_and_loading_gives_every_bit_back(tmp_path):
    one, two = net(0), net(1)
    one.to(memory_format=torch.channels_last)
    save_weights(one, tmp_path / "w.safetensors", {"teacher": "vgg"})
    assert load_weights(two, tmp_path / "w.safetensors") == []
    assert same(one, two)
    assert read_metadata(tmp_path / "w.safetensors") == {"teacher": "vgg"}


def test_tied_weights_are_written_once_and_stay_tied(tmp_path):
    one, two = Tied(0), Tied(1)
    save_weights(one, tmp_path / "w.safetensors")
    assert list(read_weights(tmp_path / "w.safetensors")) == ["embed.weight"]
    load_weights(two, tmp_path / "w.safetensors")
    assert torch.equal(two.head.weight, one.embed.weight)
    assert two.head.weight is two.embed.weight


def test_parts_of_one_memory_are_written_as_their_own(tmp_path):
    model = nn.Module()
    whole = torch.arange(6.0)
    model.register_buffer("left", whole[:3])
    model.register_buffer("right", whole[3:])
    save_weights(model, tmp_path / "w.safetensors")
    state = read_weights(tmp_path / "w.safetensors")
    assert state["left"].tolist() == [0, 1, 2]
    assert state["right"].tolist() == [3, 4, 5]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    save_weights(net(0), tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()

    def full(number):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)  # the last moment at which a disk can refuse
    with pytest.raises(OSError, match="disk full"):
        save_weights(net(1), tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_save_replaces_the_file(tmp_path):
    for seed in (0, 1):
        save_weights(net(seed), tmp_path / "w.safetensors")
    loaded = net(5)
    load_weights(loaded, tmp_path / "w.safetensors")
    assert same(loaded, net(1))


def test_only_safetensors_are_written(tmp_path):
    with pytest.raises(ModelError, match=r"written as .safetensors, got the name 'w.pt'"):
        save_weights(net(), tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin", ".ckpt"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "best": 93.5},
        lambda s: {"model": s, "optimizer": {"state": {}}},
        lambda s: {"model_state_dict": s},
        lambda s: {"net": s, "acc": 0.9},
        lambda s: {"ema": {"state_dict": s}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": collections.OrderedDict((f"model.{k}", v) for k, v in s.items())},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    ],
)
def test_nests_and_prefixes_come_off(tmp_path, suffix, wrap):
    one, two = net(0), net(1)
    path = tmp_path / f"w{suffix}"
    torch.save(wrap(one.state_dict()), path)
    assert load_weights(two, path) == []
    assert same(one, two)


def test_a_prefix_that_the_model_has_itself_stays(tmp_path):
    class Holder(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.model = net(seed)

    one, two = Holder(0), Holder(1)
    torch.save(one.state_dict(), tmp_path / "w.pt")
    load_weights(two, tmp_path / "w.pt")
    assert same(one, two)


def test_old_files_without_counters_of_batches_load(tmp_path):
    one, two = net(0), net(1)
    state = {k: v for k, v in one.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "w.pt")
    assert load_weights(two, tmp_path / "w.pt") == ["1.num_batches_tracked"]
    assert same(one, two)


class Evil:
    def __reduce__(self):
        return (os.system, ("echo owned > owned.txt",))


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": net().state_dict(), "evil": Evil()}, "w.pt")
    with pytest.raises(
        ModelError, match=r"refused to load w.pt: it asks for '\w+.system'"
    ) as caught:
        load_weights(net(), "w.pt")
    assert "convert it once: safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("owned.txt").exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"asks for 'torch.nn.modules.container.Sequential'"):
        load_weights(net(), tmp_path / "w.pt")


def test_a_harmless_but_foreign_thing_is_refused_too(tmp_path):
    torch.save(
        {"state_dict": net().state_dict(), "day": datetime.date(2020, 1, 1)}, tmp_path / "w.pt"
    )
    with pytest.raises(ModelError, match=r"asks for 'datetime.date'"):
        load_weights(net(), tmp_path / "w.pt")


def test_mismatches_are_listed_shortly(tmp_path):
    state = net(out=5).state_dict()
    state |= {f"extra{i}": torch.zeros(1) for i in range(5)}
    del state["0.weight"]
    torch.save(state, tmp_path / "w.pt")
    model = net(1)
    before = weights_hash(model)
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path / "w.pt")
    said = str(caught.value)
    assert "w.pt does not fit Sequential: missing 0.weight; " in said
    assert "not in the model extra0, extra1, extra2 and 2 more; " in said
    assert "of another shape 4.weight (file (5, 16), model (3, 16)), 4.bias" in said
    assert "\n" not in said
    assert weights_hash(model) == before


def test_loading_not_strictly_fills_what_fits(tmp_path):
    one, two = net(0, out=5), net(1)
    torch.save(one.state_dict(), tmp_path / "w.pt")
    assert load_weights(two, tmp_path / "w.pt", strict=False) == ["4.weight", "4.bias"]
    assert torch.equal(two[0].weight, one[0].weight)
    assert same(two[4], net(1)[4])


def test_weights_of_quite_another_model_are_refused_even_then(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(
        ModelError, match="holds nothing that fits Sequential: its first names are a"
    ):
        load_weights(net(), tmp_path / "w.pt", strict=False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_weights_are_refused_by_name_before_anything_changes(tmp_path, bad):
    state = net(0).state_dict()
    state["4.weight"][1, 2] = bad
    torch.save(state, tmp_path / "w.pt")
    model = net(1)
    before = weights_hash(model)
    with pytest.raises(
        ModelError, match=r"weights '4.weight' hold 1 NaN or infinite numbers of 48"
    ):
        load_weights(model, tmp_path / "w.pt")
    assert weights_hash(model) == before
    model.load_state_dict(state)
    with pytest.raises(ModelError, match=r"'4.weight' hold 1 NaN"):
        save_weights(model, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.safetensors", b"not this", "w.safetensors is no whole safetensors file"),
        ("w.pt", b"not this", "w.pt"),
        ("w.pt", b"\x80", "w.pt cannot be read as a torch file"),
        ("w.npz", b"", "weights are read from .safetensors, .pt, .* and this ends in '.npz'"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        load_weights(net(), tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_torn_file_is_one_line(tmp_path):
    torch.save(net().state_dict(), tmp_path / "w.pt")
    save_weights(net(), tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match=name) as caught:
            load_weights(net(), tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path):
    save_weights(net(), tmp_path / "student.safetensors")
    with pytest.raises(ModelError, match=r"no file of weights.*Did you mean 'student.safetensors'"):
        load_weights(net(), tmp_path / "studnet.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3, "optimizer": {}}, "holds no weights where they usually are .*epoch, optim"),
        ([1, 2], "holds a list, and weights by name were expected"),
        (torch.zeros(3), "holds a Tensor, and weights by name"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=words):
        load_weights(net(), tmp_path / "w.pt")


def test_the_hash_is_sha256_over_names_kinds_and_values():
    model = nn.Linear(2, 3)
    digest = hashlib.sha256()
    for name in ("bias", "weight"):
        value = getattr(model, name).detach().numpy()
        digest.update(f"{name} torch.float32 {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).astype("<f4").tobytes())
    assert weights_hash(model) == digest.hexdigest()


def test_the_hash_is_of_content_alone(tmp_path):
    one, two = net(0), net(1)
    assert weights_hash(one) != weights_hash(two)
    save_weights(one, tmp_path / "w.safetensors")
    load_weights(two, tmp_path / "w.safetensors")
    two.to(memory_format=torch.channels_last)
    assert weights_hash(one) == weights_hash(two)
    two[1].running_mean[0] += 1e-6
    assert weights_hash(one) != weights_hash(two)
    assert weights_hash(one.bfloat16()) != weights_hash(net(0))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")],
)
def test_published_cifar10_weights_load_strictly(name, file):
    path = DATA / "vision" / "cifar10-resnets" / file
    if not path.is_file():
        pytest.skip(f"{file} is not in {path.parent} (set TUTELAGE_DATA)")
    model = build_model(name, classes=10, shape=(3, 32, 32))
    left = load_weights(model, path)
    assert all(one.endswith("num_batches_tracked") for one in left)
    state = read_weights(path)
    assert torch.equal(model.layer3[0].conv1.weight, state["module.layer3.0.conv1.weight"])
    assert torch.equal(model.linear.bias, state["module.linear.bias"])
