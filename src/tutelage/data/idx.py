"""The idx format of MNIST and its relatives, plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from tutelage.core.errors import DataError


def read_bytes(path: Path) -> bytes:
    """Content of a file, decompressed if its name ends in ``.gz``."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {str(path)!r} ({error}): bring a whole copy.") from error


def parse(content: bytes, name: str) -> Tensor:
    """The uint8 tensor in idx bytes: magic ``00 00 08 d``, d big-endian sizes, then the data.

    >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "pair")
    tensor([7, 9], dtype=torch.uint8)
    """
    dimensions = content[3] if len(content) > 3 else 0
    begin = 4 + 4 * dimensions
    if content[:3] != b"\x00\x00\x08" or not dimensions or len(content) < begin:
        raise DataError(f"{name} is no idx file of bytes (it starts with {content[:4].hex()!r}).")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, begin, 4)]
    if len(content) - begin != math.prod(shape):
        raise DataError(
            f"{name} holds {len(content) - begin} bytes, and its header says {math.prod(shape)} "
            f"for shape {tuple(shape)}: bring a whole copy."
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=begin).view(shape)
