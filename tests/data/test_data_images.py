import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.core.errors import DataError
from tutelage.data import Augment, LazySet, Loader, TensorSet, image_folder
from tutelage.data.archives import open_tree
from tutelage.data.images import decode

CIFAR = (
    Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "vision"
    / "cifar10-jpeg.zip"
)


def encoded(value=0, side=(4, 4), mode="RGB", kind="PNG", **options):
    pixels = np.random.default_rng(value).integers(0, 256, (*side, len(mode)), dtype=np.uint8)
    image = Image.fromarray(pixels.squeeze(-1) if mode == "L" else pixels, mode=None)
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def tree(prefix="", splits=("",), classes=("cat", "dog"), each=10, **options):
    """Files of a well-formed set by path."""
    count, files = 0, {}
    for split in splits:
        for kind in classes:
            for index in range(each):
                files[f"{prefix}{split}{kind}/{index:03}.png"] = encoded(count, **options)
                count += 1
    return files


def folder(files, root):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_bytes(content)
    return str(root)


def archive(files, root):
    path = root / "images.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return str(path)


both = pytest.mark.parametrize("put", [folder, archive])


@both
def test_plain_class_folders_are_split_by_class(put, tmp_path):
    splits = image_folder(put(tree(each=20), tmp_path), validation=4, test=0.2)
    assert splits.classes == ("cat", "dog")
    assert splits.example_shape == (3, 4, 4)
    assert torch.bincount(splits.validation.targets).tolist() == [2, 2]
    assert torch.bincount(splits.test.open("counting").targets).tolist() == [4, 4]
    assert len(splits.train) == 28


@both
@pytest.mark.parametrize("prefix", ["", "my-images/"])
@pytest.mark.parametrize("name", ["val", "validation"])
def test_official_splits_are_kept(put, prefix, name, tmp_path):
    files = tree(prefix, ("train/", f"{name}/", "test/"))
    splits = image_folder(put(files, tmp_path))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [20, 20, 20]
    pixels = decode(files[f"{prefix}test/dog/003.png"])
    test = splits.test.open("comparing")
    assert torch.equal(test.inputs[13], pixels)
    assert test.ids.tolist() == list(range(40, 60))
    assert test.targets.tolist() == [0] * 10 + [1] * 10


@both
def test_missing_splits_are_taken_out_of_train(put, tmp_path):
    splits = image_folder(put(tree(splits=("train/", "test/")), tmp_path), validation=4)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [16, 4, 20]


def test_folder_and_archive_give_the_same_set(tmp_path):
    (tmp_path / "a").mkdir()
    one = image_folder(folder(tree(), tmp_path / "a"))
    other = image_folder(archive(tree(), tmp_path))
    assert one.train.fingerprint() == other.train.fingerprint()


@both
def test_memory_and_demand_give_the_same_batches(put, tmp_path):
    path = put(tree(), tmp_path)
    held, read = (image_folder(path, in_memory=kept) for kept in (True, False))
    assert isinstance(held.train, TensorSet)
    assert isinstance(read.train, LazySet)
    augment = Augment([{"shift": {"pixels": 1}}, "cutmix"])
    for a, b in zip(
        Loader(held.train, 3, augment=augment).epoch(1),
        Loader(read.train, 3, augment=augment).epoch(1),
        strict=True,
    ):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(a.ids, b.ids)
    assert read.train.fingerprint() == image_folder(path, in_memory=False).train.fingerprint()


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:This process .* is multi-threaded"
)
@both
def test_workers_read_the_same_images(put, tmp_path):
    train = image_folder(put(tree(), tmp_path), in_memory=False).train
    alone, many = (
        torch.cat([b.inputs for b in Loader(train, 4, workers=w).epoch(0)]) for w in (0, 2)
    )
    assert torch.equal(alone, many)


@both
def test_a_reader_survives_pickling(put, tmp_path):
    train = image_folder(put(tree(), tmp_path), in_memory=False).train
    rows = torch.arange(3)
    again = pickle.loads(pickle.dumps(train))  # noqa: S301
    assert torch.equal(again.fetch(rows), train.fetch(rows))


def test_images_are_scaled_to_cover_and_cropped_around_the_centre():
    wide = np.zeros((4, 8, 3), dtype=np.uint8)
    wide[:, 2:6] = 255
    held = io.BytesIO()
    Image.fromarray(wide).save(held, "PNG")
    assert decode(held.getvalue(), size=(4, 4)).min() == 255
    assert decode(held.getvalue(), size=(2, 4)).shape == (3, 2, 4)


def test_pixels_come_out_as_they_went_in():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    assert torch.equal(decode(held.getvalue()), torch.from_numpy(pixels).permute(2, 0, 1))


def test_grey_is_luma_and_grey_files_become_rgb():
    colour = torch.from_numpy(np.full((2, 2, 3), (200, 100, 50), dtype=np.uint8))
    held = io.BytesIO()
    Image.fromarray(colour.numpy()).save(held, "PNG")
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert abs(int(decode(held.getvalue(), channels=1)[0, 0, 0]) - luma) <= 1
    grey = decode(encoded(1, mode="L"))
    assert grey.shape == (3, 4, 4)
    assert torch.equal(grey[0], grey[2])


def test_transparency_is_dropped():
    assert decode(encoded(1, mode="RGBA")).shape == (3, 4, 4)


def test_a_camera_held_sideways_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(encoded(1, side=(4, 8), kind="JPEG"))
    turned = decode(encoded(1, side=(4, 8), kind="JPEG", exif=exif))
    assert torch.equal(turned, upright.rot90(-1, (1, 2)))


def test_deep_images_are_refused():
    held = io.BytesIO()
    Image.fromarray(np.full((2, 2), 40_000, dtype=np.uint16)).save(held, "PNG")
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        decode(held.getvalue())


@both
def test_other_and_hidden_files_are_passed_over(put, tmp_path):
    files = tree() | {
        "README.md": b"hello",
        "cat/notes.txt": b"hello",
        "cat/.hidden.png": b"broken",
        "__MACOSX/cat/000.png": b"broken",
        ".thumbnails/000.png": b"broken",
        "cat/more/deep.PNG": encoded(99),
    }
    splits = image_folder(put(files, tmp_path), validation=2, test=2)
    assert len(splits.train) == 17
    assert splits.classes == ("cat", "dog")


BAD = {
    "broken": (tree() | {"dog/003.png": b"no image"}, {}, "'dog/003.png' in .* is no whole image"),
    "cut off": (
        tree() | {"dog/003.png": encoded(3)[:60]},
        {},
        "'dog/003.png' in .* is no whole image",
    ),
    "two sizes": (
        tree() | {"dog/003.png": encoded(3, (5, 6))},
        {},
        "'dog/003.png' in .* is 5x6, and 'cat/000.png' is 4x4: give size",
    ),
    "empty class": (tree() | {"cow/": b""}, {}, "no image for class 'cow': remove the folder"),
    "no image": ({"cat/a.txt": b"", "dog/b.txt": b""}, {}, "has no images"),
    "no folders": ({"a.png": encoded()}, {}, "has no folders: expected one for each class"),
    "one class": (tree(classes=("cat",)), {}, "has one class only, 'cat'"),
    "class lists": (
        tree(splits=("train/",)) | tree(splits=("test/",), classes=("dog", "wolf")),
        {},
        "test has 'wolf', which train lacks; test lacks 'cat', which train has",
    ),
    "val twice": (
        tree(splits=("train/", "val/", "validation/")),
        {},
        "both 'validation' and 'val'",
    ),
    "own test": (tree(splits=("train/", "test/")), {"test": 0.1}, "has a test folder of its own"),
    "too small": (tree(each=2), {"validation": 0.4}, "too small for 2 classes"),
    "channels": (tree(), {"channels": 2}, r"channels is 2, expected 1 \(grey\) or 3"),
    "size": (tree(), {"size": 0}, "size is 0, expected a side"),
}


@both
@pytest.mark.parametrize("case", BAD)
def test_a_set_that_cannot_be_is_refused_in_one_line(put, case, tmp_path):
    files, options, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        image_folder(put(files, tmp_path), **options)
    assert "\n" not in str(caught.value)


def test_a_missing_path_suggests_the_nearest(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no 'imges' in .* Did you mean 'images'"):
        image_folder(str(tmp_path / "imges"))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no folders"):
        image_folder(str(tmp_path))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match="neither a folder nor a zip archive"):
        image_folder(str(tmp_path / "images.zip"))


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "cat/../../evil.png", "a\\b.png"])
def test_an_archive_that_points_outside_is_refused(name, tmp_path):
    path = archive(tree() | {name: b""}, tmp_path)
    with pytest.raises(DataError, match="points outside of it"):
        image_folder(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images.zip"]


def test_a_damaged_member_is_named(tmp_path):
    path = Path(archive(tree(), tmp_path))
    content = bytearray(path.read_bytes())
    place = content.find(encoded(13))
    content[place + 40] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read 'dog/003\.png' .*CRC"):
        image_folder(str(path))


def test_an_archive_is_read_in_place(tmp_path):
    found = open_tree(archive(tree(), tmp_path), "path")
    assert found.read("cat/000.png") == encoded(0)
    assert [p.name for p in tmp_path.iterdir()] == ["images.zip"]


@pytest.mark.data
@pytest.mark.skipif(not CIFAR.is_file(), reason=f"no CIFAR-10 JPEGs at {CIFAR}")
def test_cifar_jpegs_are_read_whole():
    splits = image_folder(str(CIFAR), validation=5000)
    assert torch.bincount(splits.train.targets).tolist() == [4500] * 10
    assert torch.bincount(splits.validation.targets).tolist() == [500] * 10
    assert torch.bincount(splits.test.open("counting").targets).tolist() == [1000] * 10
    assert splits.example_shape == (3, 32, 32)
    assert splits.classes[0] == "airplane"
    lazy = image_folder(str(CIFAR), validation=5000, in_memory=False)
    rows = torch.tensor([0, 777, 44_999])
    assert torch.equal(lazy.train.fetch(rows), splits.train.fetch(rows))
