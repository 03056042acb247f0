"""Sources whose batches hold several versions of each example.

Rows of one example follow each other, and share number, target and mask; ``variant`` says which
version a row is, 0 being the example as it was. So a batch that is cut keeps versions together,
except at the cuts.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.core.source import Source
from tutelage.data.augment import Augment

Labels = Literal["all", "plain"]
"""Which rows keep their target; that of the others says unlabelled."""


@register("variant", "rotations")
class Rotations:
    """Each batch of N examples with all quarter turns: 4 N rows, of 0, 90, 180 and 270 degrees.

    Args:
        source: Gives batches of square images with ids: a `tutelage.data.Loader`.
        labels: "all" rows keep their target; or "plain" ones alone, so that what reads targets
            (``ce``) sees the others as unlabelled. It still counts them: 4 times its weight.

    Raises:
        DataError: Batches without ids, or of other than square images.

    Example:
        >>> from tutelage.data import Loader, TensorSet
        >>> images = TensorSet(torch.rand(5, 1, 4, 4), torch.arange(5), classes=list("abcde"))
        >>> batch = next(Rotations(Loader(images, 2, shuffle=False)).epoch(0))
        >>> batch.ids.tolist(), batch.variant.tolist()
        ([0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3])
    """

    def __init__(self, source: Source[Batch], labels: Labels = "all"):
        self.source, self.labels = source, _known(labels)

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one numbered ``start`` on, turned."""
        for batch in self.source.epoch(number, start):
            images, _ = _examples(batch, "Rotations")
            if images.ndim != 4 or images.shape[2] != images.shape[3]:
                raise DataError(
                    "Rotations turns square images (N, C, H, H), and this batch has shape "
                    f"{tuple(images.shape)}: crop them, or use StrongViews."
                )
            turned = [torch.rot90(images, turns, (2, 3)) for turns in range(4)]
            yield _several(batch, turned, self.labels)


@register("variant", "strong")
class StrongViews:
    """Each batch of N examples with a strongly augmented view of each: 2 N rows.

    A strong view is made of the batch's own view, by numbers that depend on (seed, epoch, id)
    alone. It is another in every epoch, also where the loader's views repeat: ``Batch.view``, which
    would name the exact inputs, is None.

    Args:
        source: Gives batches with ids: a `tutelage.data.Loader`.
        augment: How strong views are made; nothing that mixes examples.
        seed: Of the strong views.
        labels: As in `Rotations`; here twice the weight.

    Raises:
        RecipeError: ``augment`` mixes examples.
        DataError: Batches without ids, or that ``augment`` cannot work on.

    Example:
        >>> from tutelage.data import Augment, Loader, TensorSet
        >>> images = Loader(TensorSet(torch.rand(5, 1, 4, 4)), 2, shuffle=False)
        >>> strong = StrongViews(images, Augment(["flip"]))
        >>> batch = next(strong.epoch(0))
        >>> batch.ids.tolist(), batch.variant.tolist()
        ([0, 0, 1, 1], [0, 1, 0, 1])
    """

    def __init__(
        self, source: Source[Batch], augment: Augment, *, seed: int = 0, labels: Labels = "all"
    ):
        if augment.mixings:
            raise RecipeError(
                f"StrongViews keeps each example's target, and {augment.mixings[0][0]!r} mixes "
                "examples: leave it out."
            )
        self.source, self.augment, self.labels = source, augment, _known(labels)
        self.seed = derive(seed, "strong")

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one numbered ``start`` on, with strong views."""
        for batch in self.source.epoch(number, start):
            plain, ids = _examples(batch, "StrongViews")
            self.augment.check(tuple(plain.shape[1:]))
            strong = self.augment.view(plain, ids, seed=self.seed, view=number)
            yield replace(_several(batch, [plain, strong], self.labels), view=None)


def _known(labels: Labels) -> Labels:
    if labels not in ("all", "plain"):
        raise RecipeError(f"labels must be 'all' or 'plain', got {labels!r}.")
    return labels


def _examples(batch: Batch, asker: str) -> tuple[Tensor, Tensor]:
    """Inputs and numbers of a batch of plain examples."""
    if not isinstance(batch.inputs, Tensor):
        raise DataError(
            f"{asker} needs one tensor of inputs, and this batch has several: "
            f"{', '.join(batch.inputs)}."
        )
    if batch.ids is None:
        raise DataError(
            f"{asker} tells examples apart by their numbers, and this batch has no ids: use a "
            "loader of tutelage.data, or give Batch(..., ids=...)."
        )
    if batch.variant is not None:
        raise DataError(f"{asker} got a batch that has variants already: wrap the loader itself.")
    return batch.inputs, batch.ids


def _several(batch: Batch, versions: list[Tensor], labels: Labels) -> Batch:
    """One batch of all ``versions`` of its inputs, those of one example together."""
    count = len(versions)

    def repeated(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.repeat_interleave(count, dim=0)

    variant = torch.arange(count, device=versions[0].device).repeat(len(batch))
    targets = repeated(batch.targets)
    if targets is not None and labels == "plain":
        plain = (variant == 0).view(-1, *(1,) * (targets.ndim - 1))
        targets = torch.where(plain, targets, 0 if targets.is_floating_point() else -1)
    return replace(
        batch,
        inputs=torch.stack(versions, dim=1).flatten(0, 1),
        targets=targets,
        mask=repeated(batch.mask),
        ids=repeated(batch.ids),
        variant=variant,
    )
