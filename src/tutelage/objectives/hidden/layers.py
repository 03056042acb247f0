"""Pairs of features that are written once for all layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.objectives.matching.layers import layer_pairs
from tutelage.objectives.pairs import Pairs
from tutelage.objectives.units import number

STAR = "*"


def spread(
    pairs: Pairs | None, layers: Sequence[int] | None, asker: str, order: str = "skip"
) -> Pairs | None:
    r"""Pairs with ``*`` in place of a layer's number, one for each layer of the student.

    .. math:: g(m) = \lceil m \, T / S \rceil, \quad m = 1 \dots S

    Args:
        pairs: Student feature to teacher feature; those without ``*`` stay as they are.
        layers: S and T, how many layers student and teacher have; needed where there is a ``*``.
        asker: In whose name others are refused.
        order: Which layers meet: see `layer_pairs`.

    Returns:
        Pairs by number, from 0.

    Raises:
        RecipeError: A ``*`` has none on the other side, or nobody said how many layers there are.

    Example:
        >>> spread({"block.*.out": "layers.*", "norm": "norm"}, [2, 6], "tinybert")
        {'block.0.out': 'layers.2', 'block.1.out': 'layers.5', 'norm': 'norm'}
    """
    if not isinstance(pairs, Mapping):
        return pairs
    found: dict[str, list[Any]] = {}
    for ours, theirs in pairs.items():
        several = list(theirs) if isinstance(theirs, (list, tuple)) else [theirs]
        if not any(_starred(path) for path in (ours, *several)):
            found.setdefault(ours, []).extend(several)
            continue
        if len(several) != 1 or not all(_once(path) for path in (ours, *several)):
            raise RecipeError(
                f"{asker}: a pair for all layers needs one '*' on either side, such as "
                f"{{layers.*: layers.*}}, got {{{ours!r}: {theirs!r}}}."
            )
        for i, j in layer_pairs(*both_counts(layers, asker), order, asker):
            numbered = str(several[0]).replace(STAR, str(j))
            found.setdefault(ours.replace(STAR, str(i)), []).append(numbered)
    return {path: one[0] if len(one) == 1 else one for path, one in found.items()}


def every(pairs: Pairs, layers: Sequence[int], asker: str) -> tuple[list[str], list[str]]:
    """All layers of both networks that one pair with ``*`` on either side stands for.

    Example:
        >>> every({"block.*": "layers.*"}, [2, 3], "bert_emd")
        (['block.0', 'block.1'], ['layers.0', 'layers.1', 'layers.2'])
    """
    counts = both_counts(layers, asker)
    written = list(pairs.items()) if isinstance(pairs, Mapping) else []
    if len(written) != 1 or not all(_once(path) for path in written[0]):
        raise RecipeError(
            f"{asker}: name all layers of both networks by one pair with one '*' on either side, "
            f"such as {{layers.*: layers.*}}, got {pairs!r}."
        )
    ours, theirs = (
        [str(path).replace(STAR, str(number)) for number in range(count)]
        for path, count in zip(written[0], counts, strict=True)
    )
    return ours, theirs


def both_counts(layers: Sequence[int] | None, asker: str) -> tuple[int, int]:
    """How many layers both networks have."""
    both = list(layers) if isinstance(layers, (list, tuple)) else []
    if len(both) != 2 or not all(type(each) is int and each > 0 for each in both):
        raise RecipeError(
            f"{asker}: layers must be how many layers student and teacher have, such as [3, 6], "
            f"wherever a pair has a '*', got {layers!r}."
        )
    return both[0], both[1]


def layer_weights(weights: Sequence[float] | None, count: int, asker: str) -> list[float]:
    """How much each of ``count`` pairs weighs; 1 where nothing is said.

    >>> layer_weights(None, 2, "tinybert")
    [1.0, 1.0]
    """
    if weights is None:
        return [1.0] * count
    if not isinstance(weights, (list, tuple)) or len(weights) != count:
        raise RecipeError(
            f"{asker}: weights must be one number for each of the {count} pairs, got {weights!r}."
        )
    return [number(each, "weights", asker, least=0) for each in weights]


def weighted_sum(found: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of the values of all pairs, ``(N, ...)`` each, times their weights."""
    values = torch.stack(list(found))
    total: Tensor = torch.tensordot(values.new_tensor(weights), values, dims=1)
    return total


def _starred(path: Any) -> bool:
    return isinstance(path, str) and STAR in path


def _once(path: Any) -> bool:
    return isinstance(path, str) and path.count(STAR) == 1
