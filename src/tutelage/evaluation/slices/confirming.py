"""Whether a slice got worse: tested on examples that had no part in proposing it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.regressions.luck import Luck, Scale, against_retrains
from tutelage.evaluation.slices.proposing import Slice, excess
from tutelage.evaluation.standing.figures import change, ends
from tutelage.evaluation.standing.several import holm

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Rights:
    """Who is right about which example: ``(N,)`` of bool each."""

    teacher: Tensor
    student: Tensor
    baseline: Tensor | None = None

    @property
    def harm(self) -> Tensor:
        """What each example lost: 1 right with the teacher alone, -1 with the student alone."""
        return self.teacher.long() - self.student.long()


def confirmed(
    slices: Sequence[Slice],
    rights: Rights,
    proposed: Tensor,
    scales: Mapping[str, Scale],
    known: Luck | None,
    tried: Mapping[str, int],
    *,
    level: float,
) -> list[dict[str, Any]]:
    """Each slice's drop, and whether it is larger than elsewhere beyond chance.

    The test: mean of ``teacher right - student right`` inside minus outside, over Welch's standard
    error, against a normal distribution, one-sided; all slices allowed for together (`holm`). A
    slice that was proposed by one half is tested on the other; a given one on all examples. It is
    confirmed if it lost more than the rest and Newcombe's interval of its own drop is above 0.
    With trainings of the student alone, the same statistic against these tells whether it is more
    than the luck of training (``beyond``), on the scale that it has between such trainings over
    slices of the same kind, allowing for all slices that were looked at: that luck is the same on
    both halves.

    Args:
        slices: To be tested.
        rights: Who is right where.
        proposed: The half that proposed ``(N,)`` of bool.
        scales: How large the statistic gets by the luck of training, by kind of slice.
        known: What independent trainings show; None where nothing is known.
        tried: How many slices were looked at, by kind.
        level: Confidence.
    """
    rows = [_tested(one, rights, proposed, scales, known, level) for one in slices]
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p"] = p
        row["confirmed"] = p < 1 - level and row["drop"]["low"] > 0
        row["beyond"] = None
    for row in rows:
        if row["p_luck"] is not None:
            # The luck of training is the same on both halves: what was proposed was picked by it.
            row["p_luck"] = min(1.0, row["p_luck"] * tried.get(row["kind"], 1) * len(tried))
            row["beyond"] = row["confirmed"] and row["p_luck"] < 1 - level
    return rows


def excess_z(first: Tensor, second: Tensor, inside: Tensor, *, seen: Tensor) -> float:
    """How much more the first model is ahead inside a slice than outside, over its error.

    Args:
        first: Which examples it gets right ``(N,)`` of bool.
        second: Which the other model.
        inside: The slice ``(N,)`` of bool.
        seen: Which examples are looked at ``(N,)`` of bool.
    """
    within = inside[seen]
    if int(within.sum()) < 2 or int((~within).sum()) < 2:
        return 0.0
    difference, error = excess(first[seen].long() - second[seen].long(), within)
    return difference / error if error > 0 else 0.0


def visible(rights: Rights, proposed: Tensor, tests: int, share: float, level: float) -> float:
    """The excess that a slice of this share must have to be found four times in five.

    ``(z(alpha / tests) + z(0.8)) · s · sqrt(1 / n + 1 / (N - n))`` with s the spread of the harm.

    Args:
        rights: Who is right where.
        proposed: The half that does not confirm.
        tests: How many slices are tested together.
        share: Of the examples, inside the slice.
        level: Confidence.
    """
    harm = rights.harm[~proposed].double()
    inside = max(1.0, share * len(harm))
    z = _NORMAL.inv_cdf(1 - (1 - level) / max(tests, 1)) + _NORMAL.inv_cdf(0.8)
    return z * float(harm.std()) * math.sqrt(1 / inside + 1 / max(len(harm) - inside, 1.0))


def described_slice(
    one: Slice, targets: Tensor, classes: Sequence[str], measures: Mapping[str, Tensor]
) -> str:
    """What is in a slice, in a clause: its commonest classes, and how it looks.

    Args:
        one: The slice.
        targets: Class numbers ``(N,)``.
        classes: Their names.
        measures: By name ``(N,)``: said where the slice's mean is off by 0.7 deviations.
    """
    counts = torch.bincount(targets[one.inside], minlength=len(classes)).double()
    shares = counts / counts.sum().clamp(min=1)
    parts, sum_ = [], 0.0
    for number in shares.argsort(descending=True, stable=True)[:3].tolist():
        if shares[number] > 0 and sum_ < 0.8:
            parts.append(f"{classes[number]} {100 * shares[number]:.0f} %")
            sum_ += float(shares[number])
    for name, values in measures.items():
        off = float((values[one.inside].mean() - values.mean()) / values.std().clamp(min=1e-12))
        if abs(off) > 0.7:
            parts.append(f"{'high' if off > 0 else 'low'} {name}")
    return ", ".join(parts)


def _tested(
    one: Slice,
    rights: Rights,
    proposed: Tensor,
    scales: Mapping[str, Scale],
    known: Luck | None,
    level: float,
) -> dict[str, Any]:
    seen = torch.ones_like(proposed) if one.kind == "given" else ~proposed
    inside, harm = one.inside[seen], rights.harm[seen]
    teacher, student = rights.teacher[seen], rights.student[seen]
    difference, error = excess(harm, inside)
    reach = normal_quantile(level) * error
    row: dict[str, Any] = {
        "name": one.name,
        "kind": one.kind,
        "examples": int(inside.sum()),
        "tested": int(seen.sum()),
        "drop": ends(change(teacher[inside], student[inside], level=level)),
        "elsewhere": harm[~inside].double().mean().item(),
        "excess": {"mean": difference, "low": difference - reach, "high": difference + reach},
        "p": _one_sided(difference, error),
        "baseline_drop": None,
        "p_luck": None,
    }
    if rights.baseline is not None:
        alone = rights.baseline[seen]
        row["baseline_drop"] = (teacher.long() - alone.long())[inside].double().mean().item()
    if known is not None:
        scaled = scales.get(one.kind, Scale(1.0, 0))
        there = partial(excess_z, seen=seen)
        row["p_luck"] = against_retrains(known, scaled, rights.student, there, one.inside)
    return row


def _one_sided(difference: float, error: float) -> float:
    if error == 0:
        return 0.0 if difference > 0 else 1.0
    return 1 - _NORMAL.cdf(difference / error)
