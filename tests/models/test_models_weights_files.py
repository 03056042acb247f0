"""Files as others wrote them, and paths that cannot be written."""

import pytest
import torch
from torch import nn

from tutelage.core.errors import ModelError
from tutelage.models import load_weights, save_weights


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def equal(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_figures_beside_the_weights_do_not_hide_them(tmp_path):
    # as RepDistiller (best_acc a tensor) and PyTorch's ImageNet example (best_acc1) save
    one, two = net(0), net(1)
    behind = {f"module.{name}": value for name, value in one.state_dict().items()}
    for file, kept in (
        ("a.pth", {"epoch": 240, "model": behind, "best_acc": torch.tensor(75.6)}),
        ("b.tar.pth", {"state_dict": behind, "best_acc1": torch.tensor(75.6), "arch": "resnet"}),
        ("c.pt", {"step": torch.tensor(3), "model": {"ema": behind, "decay": torch.tensor(0.9)}}),
    ):
        torch.save(kept, tmp_path / file)
        nn.init.zeros_(two[0].weight)
        assert load_weights(two, tmp_path / file) == []
        assert equal(one, two)


def test_a_nest_without_a_tensor_is_told(tmp_path):
    torch.save({"model": {"name": "resnet"}, "best_acc": torch.tensor(75.6)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"holds no weights where they usually are .* name"):
        load_weights(net(0), tmp_path / "w.pt")
    torch.save({}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"holds no weights .* it has no keys"):
        load_weights(net(0), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match=f"{name} is empty .0 bytes.: take another copy"):
        load_weights(net(0), tmp_path / name)


def test_a_reason_without_words_is_told_by_its_kind(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise EOFError

    (tmp_path / "w.pt").write_bytes(b"something")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ModelError, match=r"cannot be read as a torch file: EOFError$"):
        load_weights(net(0), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("path", "words", "cause"),
    [
        ("no/w.safetensors", "No such file or directory", FileNotFoundError),
        ("folder.safetensors", "Is a directory", IsADirectoryError),
        ("file/w.safetensors", "Not a directory", NotADirectoryError),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line(tmp_path, path, words, cause):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=f"{path} cannot be written: {words}") as caught:
        save_weights(net(0), tmp_path / path)
    assert isinstance(caught.value.__cause__, cause)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
