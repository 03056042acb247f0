"""Fashion-MNIST: 60,000 and 10,000 images of clothes, 28x28 grey, 10 classes."""

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.data.idx import parse, read_bytes
from tutelage.data.paths import existing
from tutelage.data.sets import TensorSet
from tutelage.data.splits import Sealed, Splits, divide

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHA256 = {  # of the decompressed files: their gzip containers differ from place to place
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
TRAIN = 60_000
"""Test ids go on from here: test image ``i`` has the id 60,000 + i."""


class Official(NamedTuple):
    """The official files: images ``(N, 1, 28, 28)`` and labels ``(N,)``, both of uint8."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@register("data", "fashion_mnist")
def fashion_mnist(
    folder: str | None = None, validation: int = 5000, seed: int = 0, download: bool = True
) -> Splits:
    """All of Fashion-MNIST; validation is taken out of train, stratified.

    Looked for in ``folder`` if one is given; else in the folder of the Debian package
    ``dataset-fashion-mnist``, then in the cache (``TUTELAGE_CACHE``, or ``~/.cache/tutelage``),
    which is filled from the project's public address. Every file is verified by SHA-256.
    Ids are row numbers in the official files, those of test from 60,000 on.

    Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv 1708.07747. MIT licence, Zalando SE.

    Args:
        folder: Holds the four idx files, plain or gzipped.
        validation: Images in validation.
        seed: Which ones.
        download: Whether the network may be used.

    Returns:
        Splits of 60,000 - validation, validation and 10,000 images ``(1, 28, 28)``.

    Raises:
        DataError: Not found, not whole, or not Fashion-MNIST.
    """
    place = _place(folder, download)
    files = official(place)
    every = TensorSet(
        files.train_images, files.train_labels, classes=CLASSES, name="fashion_mnist train"
    )
    chosen, train = divide(every, validation, "validation", seed)
    test = TensorSet(
        files.test_images,
        files.test_labels,
        classes=CLASSES,
        ids=torch.arange(len(files.test_images)) + TRAIN,
        name="fashion_mnist test",
    )
    origin = {
        "source": "fashion_mnist",
        "folder": str(place),
        "sha256": dict(SHA256),
        "licence": "MIT",
        "validation": validation,
        "seed": seed,
    }
    return Splits(train, chosen, Sealed(test), "fashion_mnist", CLASSES, origin)


def official(folder: Path) -> Official:
    """The four files in ``folder``, verified."""
    contents = [parse(_verified(folder, name), name) for name in SHA256]
    return Official(contents[0][:, None], contents[1], contents[2][:, None], contents[3])


def _place(folder: str | None, download: bool) -> Path:
    if folder is not None:
        return existing(folder, "fashion_mnist folder")
    if all(_file(DEBIAN, name) for name in SHA256):
        return DEBIAN
    given = os.environ.get("TUTELAGE_CACHE")
    cache = (Path(given) if given else Path("~/.cache/tutelage")).expanduser() / "fashion-mnist"
    missing = [name for name in SHA256 if _file(cache, name) is None]
    if missing and not download:
        raise DataError(
            f"fashion_mnist is not in {str(DEBIAN)!r} nor in {str(cache)!r}, and download is off: "
            "give folder, or install the Debian package dataset-fashion-mnist."
        )
    for name in missing:
        _download(name, cache)
    return cache


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _verified(folder: Path, name: str) -> bytes:
    path = _file(folder, name)
    if path is None:
        raise DataError(
            f"fashion_mnist folder {str(folder)!r} has no {name} or {name}.gz: "
            f"it needs {', '.join(SHA256)}."
        )
    content = read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise DataError(
            f"{str(path)!r} is not Fashion-MNIST's: SHA-256 of its content is {found[:12]}…, "
            f"expected {SHA256[name][:12]}…; delete it, or give another folder."
        )
    return content


def _download(name: str, cache: Path) -> None:
    address = f"{ADDRESS}/{name}.gz"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            path = Path(temporary) / f"{name}.gz"
            with urllib.request.urlopen(address, timeout=30) as answer:
                path.write_bytes(answer.read())
            _verified(Path(temporary), name)
            path.replace(cache / path.name)  # whole and verified, or not there at all
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"fashion_mnist cannot be fetched from {address} into {str(cache)!r} ({reason}): "
            "give folder, install the Debian package dataset-fashion-mnist, or use "
            "fashion_mnist_small, which needs no network."
        ) from error
