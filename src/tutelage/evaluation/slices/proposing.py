"""Slices that might have got worse: proposed by rule, ranked on one half of the examples."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from tutelage.core.seeds import derive, uniform
from tutelage.evaluation.slices.describing import spread
from tutelage.evaluation.slices.means import kmeans, nearest

_TAILS = (0.1, 0.2, 1 / 3)
_CLUSTERS = (4, 8, 16)
_ALIKE = 0.5  # where so much of a slice lies in another, the less striking one is dropped
_WORDS = {1 / 3: "third", 0.2: "fifth", 0.1: "tenth"}
_ENDS = {
    "brightness": ("darkest", "brightest"),
    "contrast": ("flattest", "most contrasting"),
    "detail": ("plainest", "most detailed"),
    "colour": ("greyest", "most colourful"),
}


@dataclass(frozen=True)
class Slice:
    """Some of the examples.

    Attributes:
        name: In plain words, short: "the brightest fifth".
        inside: Which examples are in it ``(N,)`` of bool.
        kind: How it came about: ``given``, ``class``, ``measured``, ``corner`` (measured in one
            class) or ``cluster``.
    """

    name: str
    inside: Tensor
    kind: str


def halves(ids: Tensor, seed: int) -> Tensor:
    """Which examples propose (the others confirm), ``(N,)`` of bool: by their ids alone.

    Example:
        >>> bool((halves(torch.arange(9), 0) == halves(torch.arange(9).flip(0), 0).flip(0)).all())
        True
    """
    return uniform(derive(seed, "halves of the slices"), ids)[:, 0] < 0.5


def measured_slices(
    measures: Mapping[str, Tensor], first: Tensor, targets: Tensor, classes: Sequence[str]
) -> list[Slice]:
    """The lowest and highest tenth, fifth and third of every measure, of all and of each class.

    Args:
        measures: By name ``(N,)``.
        first: The half ``(N,)`` of bool whose values say where a tenth ends.
        targets: Class numbers ``(N,)``.
        classes: Names of the classes.
    """
    found = []
    for name, values in measures.items():
        low, high = _ENDS.get(name, (f"lowest {name}", f"highest {name}"))
        for share in _TAILS:
            ends = values[first].quantile(torch.tensor([share, 1 - share], dtype=values.dtype))
            if ends[0] == ends[1]:
                continue
            for word, inside in ((low, values <= ends[0]), (high, values >= ends[1])):
                plain = word if name in _ENDS else f"{word}:"
                found.append(Slice(f"the {plain} {_WORDS[share]}", inside, "measured"))
        for number, of in enumerate(classes):
            own = targets == number
            if int((own & first).sum()) < 2:
                continue
            ends = values[first & own].quantile(torch.tensor([1 / 3, 2 / 3], dtype=values.dtype))
            for word, inside in ((low, values <= ends[0]), (high, values >= ends[1])):
                plain = word if name in _ENDS else f"{word}:"
                found.append(Slice(f"the {plain} third of {of}", inside & own, "corner"))
    return found


def class_slices(targets: Tensor, classes: Sequence[str]) -> list[Slice]:
    """Every class."""
    return [Slice(f"class {of}", targets == n, "class") for n, of in enumerate(classes)]


def cluster_slices(features: Tensor, first: Tensor, seed: int) -> list[Slice]:
    """Clusters of 4, 8 and 16 by k-means, the centres fitted on one half.

    Args:
        features: ``(N, D)``; each column is brought to variance 1.
        first: The half ``(N,)`` of bool.
        seed: Of the first centres.
    """
    points, found = spread(features), []
    for many in _CLUSTERS:
        if many > int(first.sum()):
            continue
        place = nearest(points, kmeans(points[first], many, seed=seed))
        found += [
            Slice(f"cluster {number + 1} of {many}", place == number, "cluster")
            for number in range(many)
        ]
    return found


def given_slices(groups: Mapping[str, tuple[Sequence[str], Tensor]], least: int) -> list[Slice]:
    """Every group of every grouping, and of every two groupings what two groups share.

    Args:
        groups: By name of the grouping, the names of its groups and each example's number
            ``(N,)``, negative where not known.
        least: Examples that a slice must have.
    """
    single = {
        way: [Slice(f"{way} {name}", numbers == n, "given") for n, name in enumerate(names)]
        for way, (names, numbers) in groups.items()
    }
    found = [one for many in single.values() for one in many]
    for first, second in combinations(single.values(), 2):
        found += [
            Slice(f"{one.name} and {other.name}", one.inside & other.inside, "given")
            for one in first
            for other in second
        ]
    return [one for one in found if int(one.inside.sum()) >= least]


def shortlist(
    slices: Sequence[Slice], harm: Tensor, half: Tensor, *, most: int, least: int
) -> list[Slice]:
    """The most striking slices on one half: the largest excess of harm over its error.

    Args:
        slices: To choose from.
        harm: What each example lost ``(N,)``: 1, 0 or -1.
        half: Which examples may be looked at ``(N,)`` of bool.
        most: How many are kept; of slices that are much alike only the first.
        least: Examples that a slice must have on this half, and on the other.
    """
    strike: Callable[[Slice], float] = partial(_strike, harm=harm, half=half)
    usable = [
        one
        for one in slices
        if least <= int((one.inside & half).sum()) and least <= int((one.inside & ~half).sum())
        if int((~one.inside & half).sum()) >= least <= int((~one.inside & ~half).sum())
    ]
    kept: list[Slice] = []
    for one in sorted(usable, key=strike, reverse=True):
        if len(kept) == most or strike(one) <= 1:
            break
        if all(_overlap(one, other) <= _ALIKE for other in kept):
            kept.append(one)
    return kept


def excess(harm: Tensor, inside: Tensor) -> tuple[float, float]:
    """Mean harm inside minus outside, and its standard error (Welch's, no equal variances)."""
    one, other = harm[inside].double(), harm[~inside].double()
    error = math.sqrt(float(one.var() / len(one) + other.var() / len(other)))
    return float(one.mean() - other.mean()), error


def _strike(one: Slice, harm: Tensor, half: Tensor) -> float:
    difference, error = excess(harm[half], one.inside[half])
    if error == 0:
        return math.inf if difference > 0 else 0.0
    return difference / error


def _overlap(one: Slice, other: Slice) -> float:
    smaller = min(int(one.inside.sum()), int(other.inside.sum()))
    return int((one.inside & other.inside).sum()) / max(smaller, 1)
