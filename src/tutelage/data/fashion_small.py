"""The part of Fashion-MNIST that comes with this package: no network, no files to fetch."""

import hashlib
import lzma
from pathlib import Path

import torch

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.data.fashion import CLASSES, TRAIN, Official
from tutelage.data.sets import TensorSet
from tutelage.data.splits import Sealed, Splits, divide

FILE = Path(__file__).parent / "embedded" / "fashion_mnist_small.xz"
SHA256 = "48711be7e65848a80679667362c1392e990e8f4a51211141f61f4303ec915958"
"""Of the decompressed content (how it is laid out: `pack`)."""
TRAIN_EACH, TEST_EACH = 1_000, 200
COUNTS = {"train": 10 * TRAIN_EACH, "test": 10 * TEST_EACH}
_PIXELS = 28 * 28


@register("data", "fashion_mnist_small")
def fashion_mnist_small(validation: int = 2000, seed: int = 0) -> Splits:
    """10,000 training and 2,000 test images of Fashion-MNIST, embedded in this package.

    1,000 and 200 images of each class, chosen once from the official splits; validation is taken
    out of train, stratified. Ids are row numbers in the official files, those of test from 60,000
    on: the same images have the same ids as in ``fashion_mnist``.

    Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv 1708.07747. MIT licence, Zalando SE.

    Args:
        validation: Images in validation.
        seed: Which ones.

    Returns:
        Splits of 10,000 - validation, validation and 2,000 images ``(1, 28, 28)``.

    Raises:
        DataError: The embedded file is damaged, or validation is out of range.
    """
    train, test = embedded()
    chosen, rest = divide(train, validation, "validation", seed)
    origin = {
        "source": "fashion_mnist_small",
        "sha256": SHA256,
        "licence": "MIT",
        "validation": validation,
        "seed": seed,
    }
    return Splits(rest, chosen, Sealed(test), "fashion_mnist_small", CLASSES, origin)


def embedded() -> tuple[TensorSet, TensorSet]:
    """Train and test of the embedded file, verified by its checksum."""
    try:
        content = lzma.decompress(FILE.read_bytes())
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise DataError(
            f"the embedded file {str(FILE)!r} cannot be read ({error}): install tutelage again."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(
            f"the embedded file {str(FILE)!r} is damaged (SHA-256 {found[:12]}…, expected "
            f"{SHA256[:12]}…): install tutelage again."
        )
    return unpack(content)


def pack(files: Official, rows: dict[str, torch.Tensor]) -> bytes:
    """The chosen rows of the official files as bytes.

    For train, then test: images ``(n, 28, 28)`` of uint8, labels ``(n,)`` of uint8, rows ``(n,)``
    of little-endian int32.
    """
    parts = []
    for images, labels, chosen in (
        (files.train_images, files.train_labels, rows["train"]),
        (files.test_images, files.test_labels, rows["test"]),
    ):
        parts += [images[chosen].numpy().tobytes(), labels[chosen].numpy().tobytes()]
        parts.append(chosen.numpy().astype("<i4").tobytes())
    return b"".join(parts)


def unpack(content: bytes) -> tuple[TensorSet, TensorSet]:
    """Train and test from the bytes that `pack` made."""
    buffer, place, sets = bytearray(content), 0, []
    for split, first in (("train", 0), ("test", TRAIN)):
        count = COUNTS[split]

        def part(dtype: torch.dtype, size: int) -> torch.Tensor:
            nonlocal place
            tensor = torch.frombuffer(buffer, dtype=dtype, count=size, offset=place)
            place += size * tensor.itemsize
            return tensor

        images = part(torch.uint8, count * _PIXELS).view(count, 1, 28, 28)
        labels = part(torch.uint8, count)
        ids = part(torch.int32, count).long() + first
        sets.append(
            TensorSet(images, labels, classes=CLASSES, ids=ids, name=f"fashion_mnist_small {split}")
        )
    return sets[0], sets[1]
