"""Files that a recipe may name by mistake, each broken in its own way."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from recipe_samples import save_archive
from safetensors.torch import save_file

from tutelage.models import build_model, save_weights


class Code:
    """What a hostile pickle holds: loading it would make the file ``executed``."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


def make_all(folder):
    """All of them, in ``folder``."""
    save_archive(folder / "good.npz")
    _weights(folder)
    _archives(folder)
    _texts(folder)


def _weights(folder):
    fitting = build_model({"mlp": {"hidden": [32]}}, classes=10, shape=(1, 28, 28))
    other = build_model({"mlp": {"hidden": [16]}}, classes=10, shape=(1, 28, 28))
    few = build_model({"mlp": {"hidden": [32]}}, classes=4, shape=(1, 28, 28))
    colour = build_model({"vgg": {"widths": [8, 16]}}, classes=10, shape=(3, 28, 28))
    save_weights(fitting, folder / "fitting.safetensors")
    save_weights(other, folder / "other.safetensors")
    save_weights(few, folder / "few_classes.safetensors")
    save_weights(colour, folder / "colour.safetensors")
    state = {name: value.clone() for name, value in fitting.state_dict().items()}
    first = next(iter(state))
    save_file({**state, first: state[first] * torch.nan}, folder / "nan.safetensors")
    save_file({**state, first: state[first] / 0}, folder / "inf.safetensors")
    whole = (folder / "fitting.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "noise.safetensors").write_bytes(bytes(range(256)) * 20)
    (folder / "weights.onnx").write_bytes(whole)
    (folder / "folder.safetensors").mkdir()
    torch.save({"state_dict": Code(folder / "executed")}, folder / "code.pth")
    (folder / "plain.pth").write_bytes(pickle.dumps(Code(folder / "executed")))
    torch.save(5, folder / "number.pt")
    torch.save({"a": {"b": 1}}, folder / "nothing.pt")
    torch.save(state, folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pth").write_bytes(b"")


def _archives(folder):
    with np.load(folder / "good.npz") as good:
        inputs, targets = good["inputs"], good["targets"]
    save_archive(folder / "more_targets.npz", targets=np.append(targets, 1))
    save_archive(folder / "no_examples.npz", inputs=inputs[:0], targets=targets[:0])
    save_archive(folder / "negative.npz", targets=targets * 0 - 1)
    save_archive(folder / "huge_label.npz", targets=targets + 10**9)
    save_archive(folder / "fractions.npz", targets=targets / 3)
    save_archive(folder / "one_class.npz", targets=targets * 0)
    save_archive(folder / "gap.npz", targets=targets * 2)
    save_archive(folder / "objects.npz", inputs=np.array([{"a": 1}] * 600))
    save_archive(folder / "words.npz", targets=np.array(["cat"] * 600))
    save_archive(folder / "nan_inputs.npz", inputs=np.full((600, 28, 28), np.nan, np.float32))
    save_archive(folder / "normalised.npz", inputs=inputs.astype(np.float32) - 128)
    save_archive(folder / "flat_bytes.npz", inputs=inputs.reshape(600, -1))
    save_archive(folder / "scalars.npz", inputs=np.zeros(600, np.float32))
    save_archive(folder / "few.npz", count=10)
    whole = (folder / "good.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("not an archive", encoding="utf-8")
    with zipfile.ZipFile(folder / "no_arrays.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")


def _texts(folder):
    (folder / "no_images" / "cat").mkdir(parents=True)
    (folder / "no_images" / "cat" / "notes.txt").write_text("meow", encoding="utf-8")
    (folder / "empty_folder").mkdir()
    (folder / "broken_images" / "cat").mkdir(parents=True)
    for number in range(3):
        (folder / "broken_images" / "cat" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    rows = "\n".join(f"{i},{i % 7},{'yes' if i % 2 else 'no'}" for i in range(100))
    (folder / "table.csv").write_text(f"a,b,label\n{rows}\n", encoding="utf-8")
    (folder / "header.csv").write_text("a,b,label\n", encoding="utf-8")
    (folder / "empty.csv").write_text("", encoding="utf-8")
    (folder / "ragged.csv").write_text("a,b,label\n1,2,x\n1,2\n3,4,y,5\n", encoding="utf-8")
