"""Where each model of a report looks, and what that is worth: figures as plain data."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import NotInstalled
from tutelage.evaluation.explain.attention import attention_rollout
from tutelage.evaluation.explain.cam import grad_cam
from tutelage.evaluation.explain.deletion import area, chance, deletion_curve, hidden_cells
from tutelage.evaluation.explain.integrated import integrated_gradients
from tutelage.evaluation.explain.maps import cells, cosine, gini, rank_correlation, resized, spread
from tutelage.evaluation.intervals import paired_bootstrap
from tutelage.evaluation.whitebox import whitebox
from tutelage.models.observed import Observed

SIDE = 4
"""Cells along each side of the grid that spots are told by."""
FEWEST = 10
"""Examples below which a mean over maps is not told."""
_COMMON = 32  # pixels a side, at most, that maps are compared on


@dataclass(frozen=True)
class Asked:
    """What all models are asked about: images ``(N, C, H, W)``, their classes and ids ``(N,)``."""

    images: Tensor
    truth: Tensor
    ids: Tensor
    seed: int
    level: float

    @property
    def common(self) -> tuple[int, int]:
        """Height and width that maps are compared on."""
        high, wide = self.images.shape[2:]
        return min(high, _COMMON), min(wide, _COMMON)


@dataclass(frozen=True)
class Looked:
    """Where one model looks.

    Attributes:
        method: ``grad_cam``, ``rollout``, or ``integrated`` where there is neither.
        native: Maps in their own resolution ``(N, h, w)``.
        maps: The same in the resolution of comparison.
    """

    method: str
    native: Tensor
    maps: Tensor


def look(model: Observed, asked: Asked) -> Looked | None:
    """The map that a model of this form has; None where not even captum is there."""
    images, truth = asked.images, asked.truth
    ways: dict[str, Callable[[], Tensor | None]] = {
        "grad_cam": lambda: grad_cam(model, images, truth),
        "rollout": lambda: attention_rollout(model, images),
        "integrated": lambda: _integrated(model, asked),
    }
    for method, made in ways.items():
        native = made()
        if native is not None:
            return Looked(method, native, resized(native, *asked.common))
    return None


def worth(model: Observed, looked: Looked, asked: Asked) -> tuple[dict[str, Any], Tensor]:
    """Sharpness, deletion and cells of one model; and what hiding each cell costs, ``(N, cells)``.

    Returns:
        ``method``, ``empty`` (maps of nothing), ``spread`` and ``gini`` (means, or None),
        ``deletion`` (areas by the map and by chance, and the interval of their difference),
        ``curve`` (mean probability, by map and by chance), ``cells`` and ``hidden`` (means).
    """
    high, wide = asked.images.shape[2:]
    orders = resized(looked.native, high, wide), chance(asked.images, asked.ids, asked.seed)
    with whitebox(model) as logits:
        by_map, by_chance = (
            deletion_curve(logits, asked.images, asked.truth, order) for order in orders
        )
        hidden = hidden_cells(logits, asked.images, asked.truth, SIDE)
    gain = paired_bootstrap(
        area(by_chance), area(by_map), seed=asked.seed, level=asked.level
    ).as_dict()
    told = {
        "method": looked.method,
        "empty": int(spread(looked.maps).isnan().sum()),
        "spread": average(spread(looked.maps)),
        "gini": average(gini(looked.maps)),
        "deletion": {
            "map": area(by_map).mean().item(),
            "chance": area(by_chance).mean().item(),
            "gain": gain,
        },
        "curve": {"map": by_map.mean(0).tolist(), "chance": by_chance.mean(0).tolist()},
        "cells": _each(cells(looked.maps, SIDE)),
        "hidden": _each(hidden),
    }
    return told, hidden


def alike(first: Looked, second: Looked) -> dict[str, Any]:
    """How alike the maps of two models are: means over examples, None where too few have any."""
    ranks = rank_correlation(first.maps, second.maps)
    return {
        "rank": average(ranks),
        "cosine": average(cosine(first.maps, second.maps)),
        "examples": int(ranks.isfinite().sum()),
    }


def nearer(teacher: Looked, one: Looked, other: Looked, asked: Asked) -> dict[str, Any] | None:
    """By how much ``one`` looks more like the teacher than ``other`` does, in rank correlation."""
    return gap(
        rank_correlation(teacher.maps, one.maps), rank_correlation(teacher.maps, other.maps), asked
    )


def gap(first: Tensor, second: Tensor, asked: Asked) -> dict[str, Any] | None:
    """Mean difference over examples that both have a number for; None where these are few."""
    both = first.isfinite() & second.isfinite()
    if int(both.sum()) < FEWEST:
        return None
    return paired_bootstrap(first[both], second[both], seed=asked.seed, level=asked.level).as_dict()


def spots(
    student: tuple[Looked, Tensor], other: tuple[Looked, Tensor], asked: Asked, tolerated: float
) -> list[dict[str, Any]]:
    """Cells that the student looks at more than the other, and cannot do without as the other can.

    Both must be clear after allowing for the number of cells: the share of the maps that lies
    there, and what hiding the cell costs (``tolerated`` beyond what it costs the other).
    """
    level = 1 - (1 - asked.level) / SIDE**2
    (mine, cost), (its, its_cost) = student, other
    share, its_share = cells(mine.maps, SIDE), cells(its.maps, SIDE)
    seen = share.isfinite().all(1) & its_share.isfinite().all(1)
    if int(seen.sum()) < FEWEST:
        return []
    found = []
    for cell in range(SIDE**2):
        looks = paired_bootstrap(
            share[seen, cell], its_share[seen, cell], seed=asked.seed, level=level
        )
        needs = paired_bootstrap(cost[:, cell], its_cost[:, cell], seed=asked.seed, level=level)
        if looks.low > 0 and needs.low > tolerated:
            found.append(
                {
                    "cell": cell,
                    "share": share[seen, cell].mean().item(),
                    "other_share": its_share[seen, cell].mean().item(),
                    "cost": cost[:, cell].mean().item(),
                    "other_cost": its_cost[:, cell].mean().item(),
                    "low": needs.low,
                }
            )
    return sorted(found, key=lambda one: -float(one["low"]))


def integrated_of(models: Mapping[str, Observed], asked: Asked, most: int) -> dict[str, Any]:
    """How alike the models' integrated gradients are to the teacher's; or why none were made."""
    few = Asked(asked.images[:most], asked.truth[:most], asked.ids[:most], asked.seed, asked.level)
    try:
        ways = {
            role: Looked("integrated", found, resized(found, *few.common))
            for role, model in models.items()
            for found in [integrated_gradients(model, few.images, few.truth)]
        }
    except NotInstalled as error:
        return {"left_out": str(error)}
    if "teacher" not in ways:
        return {"left_out": "there is no teacher to compare with"}
    others = [role for role in ways if role != "teacher"]
    return {
        "left_out": None,
        "examples": len(few.ids),
        "alike": {role: alike(ways["teacher"], ways[role]) for role in others},
        "nearer": nearer(ways["teacher"], ways["student"], ways["baseline"], few)
        if "baseline" in ways
        else None,
    }


def average(values: Tensor) -> float | None:
    """The mean of those that are numbers; None where these are few."""
    known = values[values.isfinite()]
    return known.mean().item() if len(known) >= min(FEWEST, len(values)) and len(known) else None


def _integrated(model: Observed, asked: Asked) -> Tensor | None:
    try:
        return integrated_gradients(model, asked.images, asked.truth)
    except NotInstalled:
        return None


def _each(values: Tensor) -> list[float]:
    """The mean of each column over the rows that are numbers; 0 where none is."""
    return [0.0 if math.isnan(one) else one for one in values.nanmean(0).tolist()]


def place_of(cell: int) -> str:
    """A cell of the grid in words.

    >>> place_of(0), place_of(15), place_of(6)
    ('the top left corner', 'the bottom right corner', 'the middle (upper, right half)')
    """
    row, column = divmod(cell, SIDE)
    last = SIDE - 1
    up, side = "top" if row == 0 else "bottom", "left" if column == 0 else "right"
    if row in (0, last) and column in (0, last):
        return f"the {up} {side} corner"
    half = f"{'upper' if 2 * row < SIDE else 'lower'}"
    flank = f"{'left' if 2 * column < SIDE else 'right'} half"
    if row in (0, last):
        return f"the {up} edge ({flank})"
    if column in (0, last):
        return f"the {side} edge ({half} half)"
    return f"the middle ({half}, {flank})"


def drawn_anew(values: Tensor, asked: Asked) -> dict[str, Any] | None:
    """The mean of one figure an example, with its interval; None where too few have it."""
    return gap(values, torch.zeros_like(values), asked)
