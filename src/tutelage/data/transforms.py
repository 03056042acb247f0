"""Changes of single images: shift, flip, colour, cutout; each a function, then its random form."""

import torch
from torch import Tensor

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.data.augment import AbstractTransform, need_images


def shift(images: Tensor, rows: Tensor, columns: Tensor, pixels: int) -> Tensor:
    """Pad with zeros by ``pixels`` on every side, and crop back to the old size.

    Args:
        images: ``(N, C, H, W)``.
        rows: Top of each crop in the padded image ``(N,)`` of int64, 0 to 2 * pixels; ``pixels``
            leaves the image in its place, and 0 moves it down.
        columns: Left of each crop, likewise.
        pixels: Width of the padding.

    Returns:
        ``(N, C, H, W)``.

    Example:
        >>> shift(torch.ones(1, 1, 2, 2), torch.tensor([0]), torch.tensor([1]), 1)[0, 0]
        tensor([[0., 0.],
                [1., 1.]])
    """
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    # All crops as a view without a copy (N, C, 2p + 1, 2p + 1, H, W), of which one each is taken.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, rows, columns]


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the ``chosen`` images ``(N,)`` of bool left to right.

    >>> flip(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([True])).flatten().tolist()
    [2.0, 1.0]
    """
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def colour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, then contrast, then saturation; each clamped to [0, 1].

    Brightness ``f x``; contrast ``m + f (x - m)`` around the mean luma ``m`` of the image;
    saturation ``g + f (x - g)`` around the luma ``g`` of each pixel. Luma is
    ``0.299 R + 0.587 G + 0.114 B``, or the only channel.

    Args:
        images: ``(N, C, H, W)`` in [0, 1], C of 1 or 3.
        brightness: Factors ``(N,)``; 1 changes nothing.
        contrast: Factors ``(N,)``.
        saturation: Factors ``(N,)``; without effect on one channel.

    Returns:
        ``(N, C, H, W)`` in [0, 1].

    Example:
        >>> half, one = torch.tensor([0.5]), torch.ones(1)
        >>> colour(torch.full((1, 1, 1, 1), 0.8), half, one, one).item()
        0.4...
    """

    def wide(factors: Tensor) -> Tensor:
        return factors[:, None, None, None]

    images = (images * wide(brightness)).clamp_(0, 1)
    middle = _luma(images).mean((1, 2, 3), keepdim=True)
    images = torch.lerp(middle, images, wide(contrast)).clamp_(0, 1)
    if images.shape[1] == 1:
        return images
    return torch.lerp(_luma(images), images, wide(saturation)).clamp_(0, 1)


def cutout(images: Tensor, rows: Tensor, columns: Tensor, size: int, fill: float = 0.0) -> Tensor:
    """Paint a square of ``size`` pixels over each image, cut off at the border.

    Args:
        images: ``(N, C, H, W)``.
        rows: Row of each square's centre ``(N,)`` of int64; it covers ``rows - size // 2`` to
            ``rows - size // 2 + size - 1``.
        columns: Column of each centre, likewise.
        size: Side of the square.
        fill: What it is painted with.

    Returns:
        ``(N, C, H, W)``.

    Example:
        >>> cutout(torch.ones(1, 1, 2, 3), torch.tensor([1]), torch.tensor([0]), 1)[0, 0]
        tensor([[1., 1., 1.],
                [0., 1., 1.]])
    """
    top, left = rows - size // 2, columns - size // 2
    return images.masked_fill(inside(images, top, top + size, left, left + size), fill)


def inside(images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Which pixels lie in each image's box (ends excluded) ``(N, 1, H, W)`` of bool."""
    y = torch.arange(images.shape[-2], device=images.device)
    x = torch.arange(images.shape[-1], device=images.device)
    in_rows = (y >= top[:, None]) & (y < bottom[:, None])
    in_columns = (x >= left[:, None]) & (x < right[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _luma(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("nchw,c->nhw", images, weights)[:, None]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _places(numbers: Tensor, count: int) -> Tensor:
    return (numbers * count).long().clamp(max=count - 1)


@register("augment", "shift")
class Shift(AbstractTransform):
    """Move the image by up to ``pixels`` each way (pad and crop): see `shift`.

    Args:
        pixels: The farthest move; all ``2 * pixels + 1`` offsets of each axis are equally likely.
    """

    draws = 2

    def __init__(self, pixels: int = 4):
        if not _whole(pixels):
            raise RecipeError(f"shift pixels is {pixels!r}, expected at least 1, a whole number.")
        self.pixels = pixels

    def check(self, shape: tuple[int, ...]) -> None:
        """Images, larger than the shift."""
        need_images("shift", shape)
        if self.pixels >= min(shape[1:]):
            raise DataError(
                f"shift of {self.pixels} pixels would push images of {shape[1]}x{shape[2]} out of "
                "sight: use a smaller one."
            )

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """The shifted images."""
        rows, columns = _places(numbers, 2 * self.pixels + 1).unbind(1)
        return shift(images, rows, columns, self.pixels)


@register("augment", "flip")
class Flip(AbstractTransform):
    """Mirror left to right: see `flip`.

    Args:
        probability: Share of the examples that is mirrored.
    """

    draws = 1

    def __init__(self, probability: float = 0.5):
        if not 0 < probability <= 1:
            raise RecipeError(f"flip probability is {probability}, expected above 0 and up to 1.")
        self.probability = probability

    def check(self, shape: tuple[int, ...]) -> None:
        """Images."""
        need_images("flip", shape)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """The images, some mirrored."""
        return flip(images, numbers[:, 0] < self.probability)


@register("augment", "colour")
class Colour(AbstractTransform):
    """Brightness, contrast and saturation: see `colour`.

    Args:
        brightness: Factors are uniform in ``1 - brightness`` to ``1 + brightness``.
        contrast: Likewise.
        saturation: Likewise; for images of three channels.
    """

    draws = 3

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0):
        self.strengths = (brightness, contrast, saturation)
        if min(self.strengths) < 0 or max(self.strengths) > 1 or not any(self.strengths):
            raise RecipeError(
                f"colour brightness, contrast, saturation are {self.strengths}, "
                "expected numbers from 0 to 1, one of them above 0."
            )

    def check(self, shape: tuple[int, ...]) -> None:
        """Images of one channel, or of three."""
        need_images("colour", shape)
        if shape[0] not in (1, 3):
            raise DataError(f"colour needs images of 1 or 3 channels, these have {shape[0]}.")
        if self.strengths[2] and shape[0] == 1:
            raise DataError(
                "colour saturation needs 3 channels, these images have 1: leave it out."
            )

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """The images in other colours."""
        factors = 1 + (2 * numbers - 1) * numbers.new_tensor(self.strengths)
        return colour(images, *factors.unbind(1))


@register("augment", "cutout")
class Cutout(AbstractTransform):
    """Paint over a square: see `cutout`.

    DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout,
    arXiv 1708.04552. As there, the centre is uniform over the image, so part of the square may
    lie outside. There the square holds the data's mean; give it as ``fill``.

    Args:
        size: Side of the square in pixels.
        fill: What it is painted with, in [0, 1].
    """

    draws = 2

    def __init__(self, size: int = 8, fill: float = 0.0):
        if not _whole(size) or not 0 <= fill <= 1:
            raise RecipeError(
                f"cutout size, fill are {size!r}, {fill}: size is a whole number, at least 1, and "
                "fill lies in 0 to 1."
            )
        self.size, self.fill = size, fill

    def check(self, shape: tuple[int, ...]) -> None:
        """Images, larger than the square."""
        need_images("cutout", shape)
        if self.size >= min(shape[1:]):
            raise DataError(
                f"cutout of size {self.size} would cover images of {shape[1]}x{shape[2]}: "
                "use a smaller one."
            )

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """The images, each with its square."""
        rows = _places(numbers[:, 0], images.shape[-2])
        columns = _places(numbers[:, 1], images.shape[-1])
        return cutout(images, rows, columns, self.size, self.fill)
