"""Members and others of one class mix: an attack must not win by knowing the classes."""

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform
from tutelage.data.sets import Examples


def matched(first: Examples, second: Examples, *, seed: int, most: int) -> tuple[Tensor, Tensor]:
    """Rows of both sets with equally many examples of each class.

    Of each class as many are drawn as the smaller of the two has, and fewer in proportion where
    that is more than ``most`` altogether. Unlabelled examples are never drawn.

    Args:
        first: A labelled set.
        second: Another of the same classes.
        seed: Of the draw, by the examples' ids.
        most: Rows of each.

    Returns:
        Rows of the first and of the second, sorted, as many of one as of the other.

    Raises:
        DataError: One has no labels, or they share no class.

    Example:
        >>> from tutelage.data.sets import TensorSet
        >>> sets = [TensorSet(torch.zeros(4, 1), torch.tensor(t), classes=("a", "b"))
        ...         for t in ([0, 0, 0, 1], [0, 1, 1, 1])]
        >>> [len(rows) for rows in matched(*sets, seed=0, most=100)]
        [2, 2]
    """
    if first.targets is None or second.targets is None:
        raise DataError("members and others are matched by class: both sets need labels.")
    classes = len(first.classes)
    sizes = [torch.bincount(t[t >= 0], minlength=classes) for t in (first.targets, second.targets)]
    each = torch.minimum(*sizes)
    if int(each.sum()) > most:
        each = (each.double() * most / int(each.sum())).floor().long()
    if not int(each.sum()):
        raise DataError(f"{first.name} and {second.name} have too few examples of one class.")
    seeds = (derive(seed, "matched", place) for place in ("first", "second"))
    return _draw(first, each, next(seeds)), _draw(second, each, next(seeds))


def _draw(examples: Examples, each: Tensor, seed: int) -> Tensor:
    assert examples.targets is not None
    order = uniform(seed, examples.ids)[:, 0].argsort()
    kept = [
        order[examples.targets[order] == label][: int(count)] for label, count in enumerate(each)
    ]
    return torch.cat(kept).sort().values
