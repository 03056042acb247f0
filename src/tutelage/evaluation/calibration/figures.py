"""What the part ``calibration`` measures of one model, and of its groups, as plain data."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tutelage.data.groups import Groups
from tutelage.evaluation.calibration.measures import (
    beyond_chance,
    brier_parts,
    classwise_ece,
    debiased_rms,
    ece_difference,
    max_calibration_error,
    sureness,
)
from tutelage.evaluation.calibration.temperature import Temperature
from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.intervals import paired_bootstrap
from tutelage.evaluation.metrics import accuracy, brier, ece, nll, reliability
from tutelage.evaluation.predict import Predictions

FEWEST = 20
"""A group of fewer examples is not judged."""


def model_figures(
    answers: Predictions, *, bins: int, draws: int, seed: int, level: float
) -> dict[str, Any]:
    """All that is measured of one model's test answers."""
    logits, targets = answers.logits, answers.targets
    confidence, hits = sureness(logits, targets)
    chance = beyond_chance(logits, targets, seed=seed, bins=bins, draws=draws)
    return {
        "accuracy": accuracy(logits, targets),
        "confidence": confidence.mean().item(),
        "gap": paired_bootstrap(confidence, hits, seed=seed, level=level).as_dict(),
        "ece": chance.error,
        "ece_equal_mass": ece(logits, targets, bins=bins, equal_mass=True),
        "chance": {"expected": chance.expected, "p": chance.p},
        "debiased_rms": debiased_rms(logits, targets, bins=bins),
        "classwise_ece": classwise_ece(logits, targets, bins=bins),
        "max_error": max_calibration_error(logits, targets, bins=bins),
        "nll": finite(nll(logits, targets)),
        "brier": brier(logits, targets),
        "brier_parts": vars(brier_parts(logits, targets, bins=bins)),
        "reliability": bins_of(logits, targets, bins),
    }


def temperature_figures(
    answers: Predictions, found: Temperature, *, bins: int, draws: int, seed: int, level: float
) -> dict[str, Any]:
    """What dividing by a temperature that was fitted elsewhere does on the test split."""
    logits, targets = answers.logits.double(), answers.targets
    divided = logits / found.value
    change = None
    losses = [_losses(one, targets) for one in (divided, logits)]
    if all(bool(loss.isfinite().all()) for loss in losses):
        change = paired_bootstrap(*losses, seed=seed, level=level).as_dict()
    return {
        **vars(found),
        "ece": ece(divided, targets, bins=bins),
        "nll": finite(nll(divided, targets)),
        "brier": brier(divided, targets),
        "ece_change": ece_difference(
            divided, logits, targets, seed=seed, bins=bins, draws=draws, level=level
        ).as_dict(),
        "nll_change": change,
        "reliability": bins_of(divided, targets, bins),
    }


def group_figures(
    answers: Predictions, groups: Mapping[str, Groups], *, bins: int, level: float
) -> dict[str, list[dict[str, Any]]]:
    """How far confidence and accuracy are apart in every group, and whether more than elsewhere.

    ``differs`` is the gap of the group minus that of all other examples, with a normal interval
    that allows for the number of groups (Bonferroni); None for a group that is too small to judge.
    """
    confidence, hits = sureness(answers.logits, answers.targets)
    gaps = confidence - hits
    numbers = {name: one.of(answers.ids) for name, one in groups.items()}
    judged = sum(len(_judged(numbers[name], one)) for name, one in groups.items())
    strict = 1 - (1 - level) / max(judged, 1)
    found = {}
    for name, one in groups.items():
        rows, wide = [], _judged(numbers[name], one)
        for place, group in enumerate(one.names):
            inside = numbers[name] == place
            if not bool(inside.any()):
                continue
            outside = (numbers[name] >= 0) & ~inside
            rows.append(
                {
                    "group": group,
                    "examples": int(inside.sum()),
                    "accuracy": hits[inside].mean().item(),
                    "confidence": confidence[inside].mean().item(),
                    "gap": gaps[inside].mean().item(),
                    "ece": ece(answers.logits[inside], answers.targets[inside], bins=bins),
                    "differs": _apart(gaps[inside], gaps[outside], strict)
                    if place in wide
                    else None,
                }
            )
        found[name] = rows
    return found


def bins_of(logits: Tensor, targets: Tensor, bins: int) -> dict[str, list[float]]:
    """The bins of a reliability diagram, as plain data."""
    found = reliability(logits, targets, bins=bins)
    return {
        "confidence": found.confidence.tolist(),
        "accuracy": found.accuracy.tolist(),
        "count": found.count.long().tolist(),
    }


def finite(value: float) -> float | None:
    """None where a true class was ruled out, so that the likelihood is 0."""
    return value if math.isfinite(value) else None


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    return -logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def _judged(numbers: Tensor, groups: Groups) -> list[int]:
    """The groups that have enough examples, inside and outside."""
    known = int((numbers >= 0).sum())
    counts = [int((numbers == place).sum()) for place in range(len(groups.names))]
    return [place for place, n in enumerate(counts) if n >= FEWEST and known - n >= FEWEST]


def _apart(first: Tensor, second: Tensor, level: float) -> dict[str, float | bool]:
    mean = (first.mean() - second.mean()).item()
    error = math.sqrt(first.var().item() / len(first) + second.var().item() / len(second))
    reach = normal_quantile(level) * error
    low, high = mean - reach, mean + reach
    return {"mean": mean, "low": low, "high": high, "level": level, "clear": low > 0 or high < 0}
