"""Makes ``fashion_mnist_small.xz`` from the full Fashion-MNIST.

Run ``python -m tutelage.data.embedded.make [--folder FOLDER]``. The content is the same to the
bit everywhere; the compressed file is so with the same release of liblzma.
"""

import argparse
import hashlib
import lzma
from pathlib import Path

import torch

from tutelage.core.seeds import derive, uniform
from tutelage.data.fashion import DEBIAN, Official, official
from tutelage.data.fashion_small import FILE, TEST_EACH, TRAIN_EACH, pack
from tutelage.data.stratify import pick

SEED = 2017


def choose(files: Official) -> dict[str, torch.Tensor]:
    """The chosen rows of train and test, ascending: equally many of each class."""
    chosen = {}
    for split, labels, each in (
        ("train", files.train_labels, TRAIN_EACH),
        ("test", files.test_labels, TEST_EACH),
    ):
        rows = torch.arange(len(labels))
        numbers = uniform(derive(SEED, "fashion_mnist_small", split), rows)[:, 0]
        chosen[split] = pick(labels.long(), torch.full((10,), each), numbers)
    return chosen


def compress(content: bytes) -> bytes:
    """XZ, tuned to rows of grey bytes: no position bits, four literal context bits."""
    tuned = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=[tuned])


def main() -> None:
    """Write the file and print its checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEBIAN, help="the four official idx files")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    files = official(given.folder)
    content = pack(files, choose(files))
    packed = compress(content)
    given.out.write_bytes(packed)
    lines = (
        f"content SHA-256 {hashlib.sha256(content).hexdigest()}",
        f"file    SHA-256 {hashlib.sha256(packed).hexdigest()}",
        f"file    bytes   {len(packed)}",
    )
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
