"""Image files to uint8 tensors."""

import hashlib
import io
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.data.archives import Tree

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as an image file; others beside them are passed over."""

_MODES = {1: "L", 3: "RGB"}


def decode(
    content: bytes, *, channels: int = 3, size: tuple[int, int] | None = None, name: str = "image"
) -> Tensor:
    """One image of a file's bytes, turned upright as its EXIF note says.

    Args:
        content: The file.
        channels: 1 for grey (luma), 3 for RGB; transparency is dropped.
        size: Height and width: scaled (bilinear) to cover them, then cropped around the centre.
            None keeps the image's own.
        name: What an error calls it.

    Returns:
        ``(channels, H, W)`` of uint8.

    Raises:
        DataError: Not a whole image.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata in sound images
            image: Image.Image = Image.open(io.BytesIO(content))
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            deep = image.mode if image.mode[0] in "IF" else ""
            image = image.convert(_MODES[channels])
    except Exception as error:  # Pillow raises anything on broken bytes
        raise DataError(
            f"{name} is no whole image ({_line(error)}): remove or replace it."
        ) from error
    if deep:
        raise DataError(f"{name} has more than 8 bits a channel ({deep}): convert it to 8 bits.")
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BILINEAR)
    pixels = np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class ImageDecoder:
    """Reads image files of a folder or zip archive (a `tutelage.data.lazy.Decoder`).

    Args:
        tree: Where the files are.
        files: Which ones, in order.
        channels: 1 or 3.
        size: Height and width, or None where all images have one size.
    """

    def __init__(
        self, tree: Tree, files: Sequence[str], channels: int, size: tuple[int, int] | None
    ):
        if channels not in _MODES:
            raise DataError(f"channels is {channels}, expected 1 (grey) or 3 (RGB).")
        self.tree, self.files, self.channels, self.size = tree, list(files), channels, size

    def __len__(self) -> int:
        return len(self.files)

    def read(self, position: int) -> Tensor:
        """Image ``position`` ``(C, H, W)`` of uint8."""
        name = self.files[position]
        content = self.tree.read(name)
        where = f"{name!r} in {str(self.tree.path)!r}"
        return decode(content, channels=self.channels, size=self.size, name=where)

    def all(self) -> Tensor:
        """All images ``(N, C, H, W)``, decoded now.

        One after the other: threads were tried and are slower for small images (LOG.md).
        """
        first = self.read(0)
        whole = torch.empty(len(self), *first.shape, dtype=torch.uint8)
        for position, file in enumerate(self.files):
            image = self.read(position)
            if image.shape != first.shape:
                raise DataError(
                    f"{file!r} in {str(self.tree.path)!r} is {_size(image)}, and "
                    f"{self.files[0]!r} is {_size(first)}: give size to bring all to one."
                )
            whole[position] = image
        return whole

    def digest(self, positions: Sequence[int]) -> str:
        """SHA-256 (hex) over the files' bytes and how they are decoded."""
        total = hashlib.sha256(f"{self.channels} {self.size};".encode())
        for position in positions:
            total.update(hashlib.sha256(self.tree.read(self.files[position])).digest())
        return total.hexdigest()


def _size(image: Tensor) -> str:
    return "x".join(map(str, image.shape[1:]))


def _line(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 80 else text[:79] + "…"
