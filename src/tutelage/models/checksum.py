"""Has a module changed? Its checksum says so, wherever it lies, without moving it."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_WORDS = 1 << 16  # words of 8 bytes at a time: what a processor's cache holds
# Odd numbers, signed: 0x9E3779B97F4A7C15, and two that mix well (Steele, Lea and Flood, 2014).
_GOLDEN, _MIX1, _MIX2 = -7046029254386353131, -4658895280553007687, -7723592293110705685


@torch.no_grad()
def checksum(module: nn.Module) -> int:
    """A number of 63 bits, over every bit of a module's parameters and buffers.

    Names, dtypes and shapes count too, and buffers that are not saved. Any change within one
    word of 8 bytes, so any single flipped bit, changes it for certain; other changes go unseen
    with a chance of about 2**-63. It is made where the tensors lie and needs a few MB beside them;
    it is no signature: for a name that cannot be forged, see `tutelage.models.weights_hash`.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = checksum(layer)
        >>> layer.bias.data[0] += 1
        >>> before == checksum(layer)
        False
    """
    parts = hashlib.sha256()
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        what = f"{name} {tensor.dtype} {tuple(tensor.shape)} {_sum(tensor)}\n"
        parts.update(what.encode())
    return int.from_bytes(parts.digest()[:8], "big") >> 1


def _sum(tensor: Tensor) -> int:
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    place = torch.arange(_WORDS, device=tensor.device) * _GOLDEN
    for number, words in enumerate(_words(tensor)):
        # Every step can be undone, so two different words at one place never look the same. All
        # are needed: with fewer, the flipped signs of many numbers cancel in the sum.
        x = words + (place[: len(words)] + number * _WORDS)
        x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX1
        x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX2
        total += (x ^ ((x >> 31) & 0x1FFFFFFFF)).sum()
    return int(total)


def _words(tensor: Tensor) -> Iterator[Tensor]:
    """The bits of ``tensor`` as int64, in order; the last word is filled up with zeros."""
    flat = tensor.detach().contiguous().view(-1)
    raw = flat.view(torch.uint8)
    for start in range(0, raw.numel(), 8 * _WORDS):
        some = raw[start : start + 8 * _WORDS]
        if some.numel() % 8 or some.storage_offset() % 8:
            filled = some.new_zeros(-(-some.numel() // 8) * 8)
            filled[: some.numel()] = some
            some = filled
        yield some.view(torch.int64)
