"""Examples as a page can show them: small images as PNG, rows of tables in words."""

import base64
import struct
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.core.errors import DataError

LARGEST = 64
"""Pixels of a side: larger images are shown smaller."""


def png(image: Tensor, *, largest: int = LARGEST) -> str:
    """An image as the base64 text of a PNG file.

    Args:
        image: ``(C, H, W)`` in [0, 1]: grey for one channel, colours for three; of any other
            number of channels their mean is shown.
        largest: Pixels of the longer side; a larger image is averaged down.

    Example:
        >>> png(torch.zeros(1, 2, 2))[:11]
        'iVBORw0KGgo'
    """
    if image.ndim != 3 or not image.is_floating_point() or not image.numel():
        raise DataError(
            f"an image of shape {tuple(image.shape)} and {image.dtype} was given: floats "
            "(C, H, W) in [0, 1] can be shown."
        )
    image = image.detach().cpu().float()
    if len(image) not in (1, 3):
        image = image.mean(0, keepdim=True)
    height, width = image.shape[1:]
    scale = largest / max(height, width)
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        image = torch.nn.functional.adaptive_avg_pool2d(image, size)
    pixels = (image.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + row.contiguous().numpy().tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = (_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(lines, 9)), _chunk(b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def row_in_words(row: Tensor, mean: Tensor, deviation: Tensor, names: Sequence[str] = ()) -> str:
    """The features of a row that stand out most, in words.

    Args:
        row: Of a table, ``(D,)``; any other shape is read flat.
        mean: Of each feature, over the examples it is shown among.
        deviation: Likewise; a feature without any is left out.
        names: Of the features; numbers where there are none.

    Example:
        >>> row_in_words(torch.tensor([0.0, 9.0]), torch.zeros(2), torch.ones(2), ("a", "b"))
        'b = 9 (+9.0 sd), a = 0 (+0.0 sd)'
    """
    flat, mean, deviation = (values.flatten().double() for values in (row, mean, deviation))
    apart = torch.where(deviation > 0, (flat - mean) / deviation.clamp(min=1e-300), 0.0)
    told = []
    for place in apart.abs().argsort(descending=True, stable=True)[:3].tolist():
        name = names[place] if place < len(names) else f"feature {place}"
        told.append(f"{name} = {flat[place].item():.3g} ({apart[place].item():+.1f} sd)")
    return ", ".join(told).replace("-", "−")


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
