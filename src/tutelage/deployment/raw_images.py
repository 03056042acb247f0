"""Image files as the numbers that a shipped model takes, without torch.

It does what `tutelage.data.images.decode` does to the files of an image folder, so that a model is
asked as it was taught; and it trusts nobody, since a server gives it whatever it is sent.
"""

import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from tutelage.core.errors import DataError

MOST_PIXELS = 2**25
"""Pixels (33 million) up to which an image is decoded: a small file can claim to be larger."""

FORMATS = ("PNG", "JPEG")

_MODES = {1: "L", 3: "RGB"}


def decode(content: bytes, stated: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """One image of a file's bytes, upright, of the stated size, channels and range.

    Turned as its EXIF note says; grey by the luma of BT.601 or RGB, transparency dropped; an image
    of another size is scaled (bilinear, as Pillow does it, with antialiasing) until it covers the
    stated size, and cropped around its centre. Of an animation the first picture counts.

    Args:
        content: A PNG or JPEG file.
        stated: One input of ``preprocessing.json``: ``shape`` (channels, height, width) and
            ``range``, the numbers that black and white become.

    Returns:
        ``(C, H, W)`` of float32.

    Raises:
        DataError: One line: no whole PNG or JPEG, more than 8 bits a channel, more than
            `MOST_PIXELS`, or the model takes no images.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 2), "white").save(file, "PNG")
        >>> found = decode(file.getvalue(), {"shape": [1, 2, 2], "range": [0, 1]})
        >>> found.shape, float(found.min())
        ((1, 2, 2), 1.0)
    """
    from PIL import Image, ImageOps

    channels, height, width, low, high = _wanted(stated)
    image = _opened(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata in sound images
            image = ImageOps.exif_transpose(image)
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            deep = image.mode if image.mode[0] in "IF" else ""
            image = image.convert(_MODES[channels])
    except Exception as error:  # Pillow raises anything on broken bytes
        raise DataError(f"the image is not whole ({_line(error)}): send it again.") from error
    if deep:
        raise DataError(f"the image has more than 8 bits a channel ({deep}): convert it to 8 bits.")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
    pixels = np.array(image, dtype=np.uint8).reshape(height, width, channels)
    found = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    if (low, high) != (0.0, 1.0):
        found = np.float32(low) + found * np.float32(high - low)
    return found


def _wanted(stated: Mapping[str, Any]) -> tuple[int, int, int, float, float]:
    shape, span = stated.get("shape"), stated.get("range")
    sizes = isinstance(shape, list | tuple) and len(shape) == 3
    if not sizes or not isinstance(span, list | tuple) or len(span) != 2:
        raise DataError("the model takes no images: send numbers, as preprocessing.json states.")
    channels, height, width = map(int, shape)  # type: ignore[arg-type]  # three of them by now
    if channels not in _MODES or min(height, width) < 1 or height * width > MOST_PIXELS:
        raise DataError(
            f"the model takes images of shape ({channels}, {height}, {width}), which a PNG or "
            "JPEG does not give: send numbers."
        )
    low, high = map(float, span)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError(f"the stated range is {span!r:.80}, expected two finite numbers.")
    return channels, height, width, low, high


def _opened(content: bytes) -> Any:
    """The image with its pixels read, after its claimed size was looked at."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height <= MOST_PIXELS:
                image.load()
    except Image.DecompressionBombError as error:
        raise DataError(
            f"the image says that it has more than {MOST_PIXELS:,} pixels: make it smaller."
        ) from error
    except UnidentifiedImageError as error:
        raise DataError("the image is no whole PNG or JPEG: send one.") from error
    except Exception as error:  # Pillow raises anything on broken bytes
        raise DataError(f"the image is not whole ({_line(error)}): send it again.") from error
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"the image is {image.width:,} x {image.height:,} pixels, more than {MOST_PIXELS:,} "
            "together: make it smaller."
        )
    return image


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and "cannot identify" in text:
        return "by its first bytes"
    return text if len(text) <= 80 else text[:79] + "…"
