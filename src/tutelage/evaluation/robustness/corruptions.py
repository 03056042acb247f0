"""Own corruptions of images in [0, 1], at five severities.

In the spirit of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (arXiv 1903.12261), with severities of our own, chosen so that
images of 28 x 28 and 32 x 32 pixels stay readable for people at severity 1 and are hard at 5:
figures are **not** comparable with those published for MNIST-C, CIFAR-10-C or ImageNet-C.
Widths in pixels grow with the image's smaller side (they are given for 32).

A corrupted image depends on the image, the seed, its id, the kind and the severity alone: every
model meets the same one, in any batch. Random numbers are the same at every severity, so a more
severe noise is the same noise, only stronger.
"""

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.errors import DataError, suggest
from tutelage.core.seeds import derive, uniform

SEVERITIES = (1, 2, 3, 4, 5)
Bytes = NDArray[np.uint8]
_SIDE = 32  # pixels that widths are given for


def gaussian_noise(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Bad light or a hot sensor: ``x + s z``, z standard normal; s from .04 to .26."""
    scale = (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1]
    return images + scale * _normal(images, ids, derive(seed, "gaussian_noise"))


def shot_noise(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Few photons: ``x + sqrt(x / k) z``, the normal form of ``Poisson(k x) / k``, k of 120 to 6.

    The normal form (mean x, variance x / k, as the Poisson's) lets every severity share one z.
    """
    photons = (120, 60, 25, 12, 6)[severity - 1]
    spread = (images.clamp(min=0) / photons).sqrt()
    return images + spread * _normal(images, ids, derive(seed, "shot_noise"))


def blur(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Out of focus: a Gaussian of .5 to 2.2 pixels (at 32), the edge repeated outwards."""
    width = (0.5, 0.8, 1.1, 1.6, 2.2)[severity - 1] * min(images.shape[2:]) / _SIDE
    reach = max(1, math.ceil(3 * width))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-steps.square() / (2 * width**2))
    kernel = (kernel / kernel.sum()).to(images.dtype)
    count, channels, high, wide = images.shape
    flat = images.reshape(count * channels, 1, high, wide)
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.view_as(images)


def contrast(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Fog or a flat light: ``m + c (x - m)``, m each channel's mean; c from .85 to .2."""
    share = (0.85, 0.7, 0.5, 0.35, 0.2)[severity - 1]
    middle = images.mean((2, 3), keepdim=True)
    return middle + share * (images - middle)


def brightness(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Too long exposed: ``x + b``, b from .05 to .35."""
    return images + (0.05, 0.1, 0.15, 0.25, 0.35)[severity - 1]


def pixelate(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Few pixels: averaged down to .8 to .25 of the side, and each pixel shown large again."""
    share = (0.8, 0.6, 0.45, 0.35, 0.25)[severity - 1]
    high, wide = images.shape[2:]
    few = (max(1, round(share * high)), max(1, round(share * wide)))
    return F.interpolate(F.interpolate(images, few, mode="area"), (high, wide), mode="nearest")


def jpeg(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Saved as a real JPEG by Pillow, of quality 60 to 5; neither 1 nor 3 channels: one by one."""
    quality = (60, 30, 18, 10, 5)[severity - 1]
    pixels = images.mul(255).round().to(torch.uint8)
    if images.shape[1] not in (1, 3):
        pixels = pixels.reshape(-1, 1, *images.shape[2:])
    shown = [torch.from_numpy(_jpeg(one.permute(1, 2, 0).numpy(), quality)) for one in pixels]
    back = torch.stack(shown).permute(0, 3, 1, 2).to(images.dtype) / 255
    return back.reshape(images.shape)


def occlusion(images: Tensor, ids: Tensor, severity: int, seed: int) -> Tensor:
    """Something in the way: a grey rectangle of .25 to .65 of both sides, its place by the id.

    That of a lower severity lies inside that of a higher one, up to one pixel of rounding.
    """
    share = (0.25, 0.35, 0.45, 0.55, 0.65)[severity - 1]
    place = uniform(derive(seed, "occlusion"), ids.cpu(), 2).to(images.device)
    inside = [
        _span(place[:, axis], side, share * side) for axis, side in enumerate(images.shape[2:])
    ]
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(covered, torch.full_like(images, 0.5), images)


Corruption = Callable[[Tensor, Tensor, int, int], Tensor]
CORRUPTIONS: Mapping[str, Corruption] = {
    kind.__name__: kind
    for kind in (
        gaussian_noise,
        shot_noise,
        blur,
        contrast,
        brightness,
        pixelate,
        jpeg,
        occlusion,
    )
}
"""By name; `corrupt` calls them on what it has looked at."""


def corrupt(images: Tensor, ids: Tensor, kind: str, severity: int, *, seed: int) -> Tensor:
    """Images as they come out of one corruption.

    Args:
        images: ``(N, C, H, W)`` of float in [0, 1].
        ids: Example numbers ``(N,)``: the same number, the same corrupted image.
        kind: A name in `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of the random ones (noise, occlusion).

    Returns:
        ``(N, C, H, W)`` in [0, 1].

    Raises:
        DataError: No images in [0, 1], no such kind, or no such severity.

    Example:
        >>> images, ids = torch.rand(4, 1, 8, 8), torch.arange(4)
        >>> whole = corrupt(images, ids, "gaussian_noise", 3, seed=0)
        >>> bool((whole[2:] == corrupt(images[2:], ids[2:], "gaussian_noise", 3, seed=0)).all())
        True
    """
    if kind not in CORRUPTIONS:
        raise DataError(f"there is no corruption {kind!r}. {suggest(kind, CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise DataError(f"the severity is {severity!r}: give one of 1 to 5.")
    if images.ndim != 4 or not images.is_floating_point() or len(ids) != len(images):
        raise DataError(
            f"images of {images.dtype} and shape {tuple(images.shape)} with {len(ids)} ids were "
            "given: floats (N, C, H, W) and an id for each are needed."
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise DataError("some pixels are below 0, above 1 or NaN: corruptions take [0, 1].")
    return CORRUPTIONS[kind](images, ids, severity, seed).clamp(0, 1)


def _normal(images: Tensor, ids: Tensor, seed: int) -> Tensor:
    """Standard normal numbers of the images' shape, by inversion of uniform ones."""
    draws = uniform(seed, ids.cpu(), images[0].numel()).double()
    draws = draws + 2.0**-25  # the middle of its cell: never 0
    normal = math.sqrt(2) * torch.erfinv(2 * draws - 1)
    return normal.view(images.shape).to(images)


def _span(place: Tensor, side: int, length: float) -> Tensor:
    """Which of ``side`` pixels are covered, ``(N, side)``, where ``place`` in [0, 1) is known."""
    first = (place * (side - length)).floor()[:, None]
    last = (place * (side - length) + length).floor()[:, None]
    pixel = torch.arange(side, device=place.device)
    return (pixel >= first) & (pixel < last)


def _jpeg(pixels: Bytes, quality: int) -> Bytes:
    """``(H, W, C)`` of bytes, through a JPEG in memory."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file, format="JPEG", quality=quality
    )
    return np.array(Image.open(file), dtype=np.uint8).reshape(pixels.shape)
