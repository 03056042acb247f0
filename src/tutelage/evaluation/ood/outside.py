"""Examples from nowhere: noise and broken examples, and classes left out before training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.core.errors import DataError, suggest
from tutelage.core.seeds import generator
from tutelage.data.sets import Examples


def uniform_noise(like: Tensor, seed: int) -> Tensor:
    """Every value drawn alone: in [0, 1] for images, in its column's range for tables.

    Args:
        like: Real examples, ``(N, C, H, W)`` or ``(N, ...)``.
        seed: Of the draw.

    Returns:
        As many, of the same shape.

    Example:
        >>> uniform_noise(torch.zeros(2, 1, 4, 4), 0).shape
        torch.Size([2, 1, 4, 4])
    """
    draw = torch.rand(like.shape, generator=generator(seed, "uniform noise"))
    if like.ndim == 4:
        return draw
    low, high = like.amin(0), like.amax(0)
    return low + (high - low) * draw


def gaussian_noise(like: Tensor, seed: int) -> Tensor:
    """Normal noise of the data's own mean and deviation: by channel for images (cut to [0, 1]).

    Args:
        like: Real examples, ``(N, C, H, W)`` or ``(N, ...)``.
        seed: Of the draw.

    Example:
        >>> gaussian_noise(torch.full((2, 1, 4, 4), 0.5), 0).unique().tolist()
        [0.5]
    """
    over = (0, 2, 3) if like.ndim == 4 else 0
    mean = like.mean(over, keepdim=True)
    std = like.std(over, keepdim=True, correction=0)
    draw = mean + std * torch.randn(like.shape, generator=generator(seed, "gaussian noise"))
    return draw.clamp(0, 1) if like.ndim == 4 else draw


def shuffled(like: Tensor, seed: int, pieces: int = 4) -> Tensor:
    """Real values in the wrong places: what is there is familiar, how it hangs together is not.

    Images are cut into ``pieces`` by ``pieces`` patches that are dealt out anew, each image in its
    own order; of tables every column is shuffled over the examples.

    Args:
        like: Real examples, ``(N, C, H, W)`` or ``(N, ...)``.
        seed: Of the order.
        pieces: Patches along each side; a border that does not fill one stays in its place.

    Example:
        >>> image = torch.arange(16.0).view(1, 1, 4, 4) / 16
        >>> sorted(shuffled(image, 0, 2).flatten().tolist()) == image.flatten().tolist()
        True
    """
    dice = generator(seed, "shuffled")
    if like.ndim != 4:
        order = torch.rand(like.shape, generator=dice).argsort(0)
        return like.gather(0, order)
    count, channels, height, width = like.shape
    many = min(pieces, height, width)
    tall, wide = height // many, width // many
    body = like[:, :, : tall * many, : wide * many]
    patches = body.reshape(count, channels, many, tall, many, wide).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(count, many * many, channels, tall, wide)
    order = torch.rand(count, many * many, generator=dice).argsort(1)
    patches = patches[torch.arange(count)[:, None], order]
    patches = patches.view(count, many, many, channels, tall, wide).permute(0, 3, 1, 4, 2, 5)
    found = like.clone()
    found[:, :, : tall * many, : wide * many] = patches.reshape(body.shape)
    return found


def leave_out(examples: Examples, classes: Sequence[str]) -> tuple[Examples, Examples]:
    """Part a set before training: what may be learnt from, and classes nobody is to see.

    Names and numbers of the classes stay as they are, so one network fits both parts. To be done
    with every split before a model is trained: afterwards it cannot be had.

    Args:
        examples: A labelled set.
        classes: Names of those to leave out.

    Returns:
        The examples of all other classes, and those of these.

    Raises:
        DataError: A class is not there, nothing would be left, or there are no labels.

    Example:
        >>> from tutelage.data.sets import TensorSet
        >>> pair = TensorSet(torch.zeros(3, 2), torch.tensor([0, 1, 1]), classes=("cat", "dog"))
        >>> [len(part) for part in leave_out(pair, ["cat"])]
        [2, 1]
    """
    if examples.targets is None:
        raise DataError(f"{examples.name} has no labels: no class of it can be left out.")
    for name in classes:
        if name not in examples.classes:
            raise DataError(
                f"{examples.name} has no class {name!r} to leave out. "
                f"{suggest(name, examples.classes)}"
            )
    numbers = torch.tensor([examples.classes.index(name) for name in classes], dtype=torch.long)
    left = torch.isin(examples.targets, numbers)
    if bool(left.all()) or not bool(left.any()):
        raise DataError(
            f"leaving {', '.join(map(repr, classes))} out of {examples.name} takes "
            f"{int(left.sum())} of {len(left)} examples: some must go and some must stay."
        )
    return examples.take((~left).nonzero().flatten()), examples.take(left.nonzero().flatten())
