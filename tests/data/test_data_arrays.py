from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from tutelage.core.errors import DataError
from tutelage.data import from_dataset, from_tensors, npz

LABELS = np.arange(40) % 4


def pixels(count=40, shape=(1, 6, 6)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def saved(root, **arrays):
    np.savez(root / "set.npz", **arrays)
    return str(root / "set.npz")


def test_one_pair_of_arrays_is_split(tmp_path):
    splits = npz(saved(tmp_path, inputs=pixels(), targets=LABELS), validation=4, test=8)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [28, 4, 8]
    assert splits.classes == ("0", "1", "2", "3")
    assert torch.equal(splits.train.inputs, torch.from_numpy(pixels())[splits.train.ids])


@pytest.mark.parametrize("style", ["{split}_{name}", "{name}_{split}"])
def test_arrays_by_split_are_kept(style, tmp_path):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[style.format(split=split, name="x")] = pixels()
        arrays[style.format(split=split, name="y")] = LABELS.astype(np.uint8)
    splits = npz(saved(tmp_path, **arrays), inputs="x", targets="y", classes=list("abcd"))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [40, 40, 40]
    assert splits.validation.ids.tolist() == list(range(40, 80))
    assert splits.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (3, 6, 7), (6, 7, 1)])
def test_images_come_out_channels_first(shape, tmp_path):
    splits = npz(saved(tmp_path, inputs=pixels(shape=shape), targets=LABELS))
    channels = 3 if 3 in shape else 1
    assert splits.example_shape == (channels, 6, 7)


def test_rows_of_doubles_become_float32(tmp_path):
    splits = npz(saved(tmp_path, inputs=np.random.default_rng(0).random((40, 5)), targets=LABELS))
    assert splits.example_shape == (5,)
    assert splits.train.inputs.dtype == torch.float32


def test_big_endian_arrays_are_read(tmp_path):
    inputs = np.arange(80, dtype=">f8").reshape(40, 2)
    splits = npz(saved(tmp_path, inputs=inputs, targets=LABELS.astype(">u2")))
    assert torch.equal(splits.train.inputs[:, 0], 2.0 * splits.train.ids)


def nan():
    rows = np.zeros((40, 2))
    rows[3, 1] = np.nan
    return rows


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (
            {"input": pixels(), "targets": LABELS},
            {},
            "has no array 'inputs' or 'train_inputs'. Did you mean 'input'",
        ),
        ({"inputs": pixels(), "labels": LABELS}, {}, "'inputs' and no targets for it"),
        (
            {"inputs": pixels(), "train_inputs": pixels(), "targets": LABELS},
            {},
            "both 'inputs' and 'train_inputs'",
        ),
        ({"inputs": nan(), "targets": LABELS}, {}, "NaN or infinite values, first in row 3"),
        ({"inputs": pixels(), "targets": LABELS[:9]}, {}, r"shape \(9,\), expected \(40,\)"),
        ({"inputs": pixels(), "targets": LABELS * 1.0}, {}, "are float64, expected class numbers"),
        ({"inputs": pixels(), "targets": LABELS * 2}, {}, "no example of class '1', '3', '5'"),
        (
            {"inputs": pixels(), "targets": LABELS},
            {"classes": ["a", "b"]},
            "label 3 in row 3 of npz train is outside 0..1",
        ),
        (
            {"inputs": pixels(), "targets": LABELS + 10**6},
            {},
            "label 1000003 in npz: number the classes",
        ),
        (
            {"inputs": np.array(["a"] * 40), "targets": LABELS},
            {},
            "array 'inputs' holds <U1, expected numbers",
        ),
        ({"inputs": pixels(0), "targets": LABELS[:0]}, {}, "at least one example"),
        (
            {
                "inputs": pixels(),
                "targets": LABELS,
                "test_inputs": pixels(8, (1, 5, 5)),
                "test_targets": LABELS[:8],
            },
            {},
            r"npz test have shape \(1, 5, 5\)",
        ),
        (
            {
                "inputs": pixels(),
                "targets": LABELS,
                "test_inputs": pixels(8),
                "test_targets": LABELS[:8],
            },
            {"test": 0.5},
            "test is 0.5, and npz has a test set of its own",
        ),
        (
            {
                "inputs": pixels(),
                "targets": LABELS,
                "test_inputs": pixels(8),
                "test_targets": LABELS[:8] - 1,
            },
            {},
            "npz test has unlabelled examples",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, options, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        npz(saved(tmp_path, **arrays), **options)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = saved(tmp_path, inputs=np.array([Bomb()], dtype=object), targets=LABELS)
    with pytest.raises(DataError, match="holds Python objects"):
        npz(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", b"\x80\x04."])
def test_what_is_no_npz_is_refused(content, tmp_path):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"is no \.npz archive"):
        npz(str(tmp_path / "set.npz"))


def test_a_damaged_npz_is_refused(tmp_path):
    path = Path(saved(tmp_path, inputs=pixels(), targets=LABELS))
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as \.npz \(Bad CRC"):
        npz(str(path))


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "set.npy", pixels())
    with pytest.raises(DataError, match=r"is no \.npz archive"):
        npz(str(tmp_path / "set.npy"))


def test_tensors_with_their_own_splits_are_kept():
    pair = (torch.rand(8, 3), torch.arange(8) % 2)
    splits = from_tensors(torch.rand(40, 3), torch.arange(40) % 2, validation=pair, test=pair)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [40, 8, 8]
    assert splits.validation.ids.tolist() == list(range(40, 48))
    assert torch.equal(splits.test.open("comparing").inputs, pair[0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inputs": np.zeros((40, 3))}, "inputs of tensors train are a ndarray, .*from_numpy"),
        ({"inputs": [[1.0]] * 40}, r"inputs of tensors train are a list, .*torch\.tensor\(x\)"),
        ({"targets": LABELS}, "targets of tensors train are a ndarray, expected a tensor"),
        ({"validation": "a"}, "validation of .* is 'a', expected a count of at least 1 or a frac"),
        ({"validation": float("nan")}, "validation of .* is nan, expected a count"),
        ({"validation": torch.zeros(4, 3)}, r"validation of .* is tensor\(.*, expected a count"),
        ({"validation": (torch.rand(8, 3),)}, "validation is a tuple of 1, expected .inputs, tar"),
        ({"test": (torch.rand(8, 3), [0] * 8)}, "targets of tensors test are a list"),
    ],
)
def test_what_is_no_tensor_is_refused_in_one_line(given, words):
    usual = {"inputs": torch.rand(40, 3), "targets": torch.from_numpy(LABELS)}
    with pytest.raises(DataError, match=words) as caught:
        from_tensors(**{**usual, **given})
    assert "\n" not in str(caught.value)


def test_tensors_without_targets_are_split_too():
    splits = from_tensors(torch.rand(40, 3))
    assert splits.train.targets is None
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [32, 4, 4]


def test_targets_in_some_splits_only_are_refused():
    with pytest.raises(DataError, match="targets in some splits only"):
        from_tensors(torch.rand(40, 3), torch.arange(40) % 2, test=(torch.rand(4, 3), None))


def test_a_torch_dataset_becomes_splits():
    inputs, targets = torch.rand(40, 1, 4, 4), torch.arange(40) % 2
    splits = from_dataset(
        TensorDataset(inputs, targets), test=TensorDataset(inputs[:6], targets[:6]), validation=4
    )
    assert torch.equal(splits.train.inputs, inputs[splits.train.ids])
    assert len(splits.test) == 6
    assert splits.classes == ("0", "1")


class Items(Dataset):
    classes = ("even", "odd")

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_a_dataset_of_pillow_images_keeps_its_bytes_and_class_names():
    raw = pixels(20, (4, 5, 3))
    splits = from_dataset(Items([(Image.fromarray(a), i % 2) for i, a in enumerate(raw)]))
    assert splits.classes == ("even", "odd")
    assert splits.example_shape == (3, 4, 5)
    row = int(splits.train.ids[0])
    assert torch.equal(splits.train.inputs[0], torch.from_numpy(raw[row]).permute(2, 0, 1))


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Items([]), "dataset train is empty"),
        (Items([torch.rand(3)]), "item 0 of dataset train is a Tensor, expected"),
        (Items([("text", 0)]), "input 0 of dataset train is a str"),
        (Items([(torch.rand(3), 0.5)]), "target 0 of dataset train is '0.5', expected a class"),
        (Items([(torch.rand(3), "cat")]), "target 0 of dataset train is 'cat'"),
        (
            Items([(torch.rand(3), 0), (torch.rand(4), 1)]),
            r"item 1 .* shape \(4,\), and item 0 \(3,\)",
        ),
        (Endless(), "is a Endless without a length"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_refused(dataset, message):
    with pytest.raises(DataError, match=message):
        from_dataset(dataset)
