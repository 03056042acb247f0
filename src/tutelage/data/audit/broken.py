"""Files that cannot be read, and examples with nothing in them or like nothing else."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.data.archives import Tree
from tutelage.data.audit.descriptors import chunks
from tutelage.data.images import SUFFIXES, decode
from tutelage.data.sets import Examples, as_float

FAR = 12.0
"""Usual deviations from which on a value of a table's column is extreme."""
ODD = 7.5
"""The same, for brightness, contrast and roughness of an image: pure noise has 8 and more in
Fashion-MNIST and CIFAR-10, their own images at most 6.3."""
_FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm"),
}


@dataclass
class Files:
    """What a look at every file of a source found; each a list of paths, with what is wrong.

    Attributes:
        looked_at: How many files.
        broken: No whole images: empty, truncated, unreadable.
        disguised: Whole images of another format than their suffix says.
        overlooked: Whole images that are passed over, since their suffix is none of an image.
        passed_over: Other files that are no images by their suffix.
        sizes: How many images there are of each height and width.
    """

    looked_at: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    disguised: dict[str, str] = field(default_factory=dict)
    overlooked: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


def scan(tree: Tree, channels: int = 3) -> Files:
    """Look at every file: none stops the look at the others.

    Args:
        tree: A folder or zip archive of images.
        channels: As the source would decode them.
    """
    found = Files()
    for name in tree.files:
        found.looked_at += 1
        named = name.lower().endswith(SUFFIXES)
        try:
            content = tree.read(name)
        except DataError as error:
            found.broken[name] = _short(error)
            continue
        if not named:
            kind = _format(content) if len(content) < 2**26 else None
            if kind in _FORMATS:
                found.overlooked[name] = f"{kind} inside"
            else:
                found.passed_over.append(name)
            continue
        if not content:
            found.broken[name] = "it is empty"
            continue
        try:
            image = decode(content, channels=channels, name=name)
        except DataError as error:
            found.broken[name] = _short(error).removeprefix(f"{name} ")
            continue
        size = "x".join(map(str, image.shape[1:]))
        found.sizes[size] = found.sizes.get(size, 0) + 1
        kind = _format(content)
        if kind in _FORMATS and PurePosixPath(name).suffix.lower() not in _FORMATS[kind]:
            found.disguised[name] = f"{kind} inside"
    return found


@dataclass(frozen=True)
class Content:
    """Positions of examples whose content is odd.

    Attributes:
        not_finite: With NaN or infinite numbers.
        constant: Without any difference inside: one colour.
        extreme: Table rows with a value beyond `FAR`; images with a statistic beyond `ODD`.
    """

    not_finite: Tensor
    constant: Tensor
    extreme: Tensor


def contents(sets: Sequence[Examples]) -> Content:
    """Look at the stored numbers of every example.

    Example:
        >>> from tutelage.data import TensorSet
        >>> pixels = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
        >>> pixels[1] = 7
        >>> contents([TensorSet(pixels)]).constant.tolist()
        [1]
    """
    images = len(sets[0].example_shape) == 3
    finite, constant, rows = [], [], []
    for part in chunks(sets):
        flat = part.flatten(1)
        finite.append(torch.isfinite(flat).all(1))
        constant.append(images & (flat.amax(1) == flat.amin(1)))
        rows.append(_statistics(as_float(part)) if images else flat)
    even = torch.cat(constant)
    far = _farthest(torch.cat(rows)[~even]) > (ODD if images else FAR)
    return Content(
        (~torch.cat(finite)).nonzero().flatten(),
        even.nonzero().flatten(),
        (~even).nonzero().flatten()[far],
    )


def _statistics(images: Tensor) -> Tensor:
    """Brightness, contrast and roughness (steps between pixels over contrast) ``(N, 3)``."""
    images = torch.nan_to_num(images)
    contrast = images.flatten(1).std(1, correction=0)
    steps = sum(
        images.diff(dim=axis).square().flatten(1).mean(1) if images.shape[axis] > 1 else 0.0
        for axis in (2, 3)
    )
    rough = torch.as_tensor(steps).sqrt() / contrast.clamp_min(1e-6)
    return torch.stack([images.flatten(1).mean(1), contrast, rough.expand_as(contrast)], 1)


def _farthest(rows: Tensor) -> Tensor:
    """How many usual deviations from the middle each row's most unusual number is ``(N,)``.

    The middle is the median, a usual deviation 1.4826 times the median distance from it. Columns
    most of whose numbers are equal have none, and are let be.
    """
    if not len(rows):
        return rows.new_zeros(0)
    rows = torch.nan_to_num(rows.double())
    centre = rows.median(0).values
    spread = 1.4826 * (rows - centre).abs().median(0).values
    return ((rows - centre).abs() / torch.where(spread > 0, spread, torch.inf)).amax(1)


def _format(content: bytes) -> str | None:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata in sound images
            return Image.open(io.BytesIO(content)).format
    except Exception:  # Pillow raises anything on what is no image
        return None


def _short(error: DataError) -> str:
    return str(error).split(": remove or replace it")[0]
