"""All attacks on all models: who withstands which, and what hints at hidden gradients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import NotInstalled
from tutelage.evaluation.intervals import Interval, newcombe, wilson
from tutelage.evaluation.robustness.attacks import (
    Attacked,
    fgsm,
    noise,
    pgd,
    right,
    without_gradient,
)
from tutelage.evaluation.robustness.auto import SHORT, SHORT_QUERIES, STANDARD, autoattack
from tutelage.evaluation.robustness.masking import signs
from tutelage.evaluation.whitebox import Logits, whitebox
from tutelage.evaluation.wording import ROLES
from tutelage.models.observed import Observed

NO_BOUND = 1.0
"""Every pixel may become anything."""


@dataclass(frozen=True)
class Plan:
    """How strong the attacks are.

    Attributes:
        epsilon: Largest change of a pixel.
        steps: Gradients of each start of PGD.
        restarts: Starts of PGD.
        auto: ``short`` (three attacks of AutoAttack), ``standard`` (four, square with 5,000
            queries), or ``none``.
        seed: Of all random starts.
    """

    epsilon: float
    steps: int = 20
    restarts: int = 2
    auto: str = "short"
    seed: int = 0


@dataclass(frozen=True)
class Targets:
    """Whom the attacks are on: inputs ``(N, ...)`` in [0, 1], class numbers and ids ``(N,)``."""

    inputs: Tensor
    truth: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Stood:
    """Who of the examples stays right ``(N,)`` of bool, of one model.

    Attributes:
        clean: Without attack.
        attacks: By name of the attack (``fgsm``, ``pgd``, ``margin``, ``noise``, ``auto``).
        unbounded: Under PGD without a bound.
        flat: Whose cross-entropy has a gradient of exactly 0.
        blind: Who of these is robust to PGD for want of a gradient: that of the margin is 0 too,
            or the attack on the margin, which does not saturate, succeeds.
        curve: Under PGD, by its epsilon.
        images: What PGD made, to try on others.
        auto: Which attacks of AutoAttack were run, by which version; or why none.
    """

    clean: Tensor
    attacks: dict[str, Tensor]
    unbounded: Tensor
    flat: Tensor
    blind: Tensor
    curve: dict[float, Tensor]
    images: Tensor
    auto: dict[str, Any]


def besiege(model: Observed, targets: Targets, plan: Plan) -> Stood:
    """Every attack on one model by itself."""
    x, y, ids = targets.inputs, targets.truth, targets.ids
    sizes = sorted({plan.epsilon * share for share in (0.125, 0.25, 0.5, 1.0, 2.0)})
    with whitebox(model) as logits:

        def climb(epsilon: float, *, steps: int, restarts: int = 1, loss: str = "ce") -> Attacked:
            return pgd(
                logits,
                x,
                y,
                ids,
                epsilon=epsilon,
                steps=steps,
                restarts=restarts,
                loss=loss,
                seed=plan.seed,
            )

        strong = climb(plan.epsilon, steps=plan.steps, restarts=plan.restarts)
        attacks = {
            "noise": noise(logits, x, y, ids, epsilon=plan.epsilon, seed=plan.seed).robust,
            "fgsm": fgsm(logits, x, y, epsilon=plan.epsilon).robust,
            "pgd": strong.robust,
            "margin": climb(
                plan.epsilon, steps=plan.steps, restarts=plan.restarts, loss="margin"
            ).robust,
        }
        flat = without_gradient(logits, x, y)
        lost = without_gradient(logits, x, y, loss="margin") | ~attacks["margin"]
        auto = _auto(logits, targets, plan, attacks)
        return Stood(
            clean=right(logits, x, y),
            attacks=attacks,
            unbounded=climb(NO_BOUND, steps=2 * plan.steps).robust,
            flat=flat,
            blind=flat & lost & attacks["pgd"],
            curve={size: climb(size, steps=max(1, plan.steps // 2)).robust for size in sizes},
            images=strong.images,
            auto=auto,
        )


def carried_over(
    models: Mapping[str, Observed], stood: Mapping[str, Stood], targets: Targets
) -> dict[str, dict[str, Tensor]]:
    """By role, who stays right on images made for each of the other roles, ``(N,)`` of bool."""
    found: dict[str, dict[str, Tensor]] = {}
    for role, model in models.items():
        with whitebox(model) as logits:
            found[role] = {
                other: stood[role].clean & right(logits, stood[other].images, targets.truth)
                for other in models
                if other != role
            }
    return found


def worst(stood: Stood, carried: Mapping[str, Tensor]) -> Tensor:
    """Who stays right under every attack at once, ``(N,)`` of bool: the figure to believe."""
    return torch.stack([stood.clean, *stood.attacks.values(), *carried.values()]).all(0)


def told(stood: Stood, carried: Mapping[str, Tensor], level: float) -> dict[str, Any]:
    """One model's figures as plain data: shares with Wilson's intervals, and signs of masking."""

    def share(flags: Tensor) -> dict[str, float | str]:
        return wilson(int(flags.sum()), len(flags), level=level).as_dict()

    weak = {name: stood.attacks[name] for name in ("noise", "fgsm")}
    weak |= {
        f"images made for the {ROLES.get(other, other)}": flags for other, flags in carried.items()
    }
    strong: dict[str, Tensor] = {
        name: stood.attacks[name] for name in ("margin", "auto") if name in stood.attacks
    }
    return {
        "clean": share(stood.clean),
        "attacks": {name: share(flags) for name, flags in stood.attacks.items()},
        "transfer": {other: share(flags) for other, flags in carried.items()},
        "worst": share(worst(stood, carried)),
        "unbounded": share(stood.unbounded),
        "without_gradient": int((stood.flat & stood.clean).sum()),
        "curve": [[size, share(flags)] for size, flags in stood.curve.items()],
        "auto": stood.auto,
        "signs": signs(
            weak,
            stood.attacks["pgd"],
            strong,
            stood.unbounded,
            stood.blind,
            stood.clean,
            level=level,
        ),
    }


def difference(first: Tensor, second: Tensor, level: float) -> Interval:
    """Robust accuracy of one model minus that of another on the same examples."""
    counts = [(first & second), (first & ~second), (~first & second), (~first & ~second)]
    both, one, other, neither = (int(flags.sum()) for flags in counts)
    return newcombe(both, one, other, neither, level=level)


def _auto(
    logits: Logits, targets: Targets, plan: Plan, attacks: dict[str, Tensor]
) -> dict[str, Any]:
    """Run AutoAttack and put what it left among the attacks; or say why it was not run."""
    if plan.auto == "none":
        return {"left_out": "it was not asked for", "attacks": [], "version": None, "queries": 0}
    whole = plan.auto == "standard"
    queries = 5000 if whole else SHORT_QUERIES
    try:
        found = autoattack(
            logits,
            targets.inputs,
            targets.truth,
            epsilon=plan.epsilon,
            attacks=STANDARD if whole else SHORT,
            queries=queries,
            seed=plan.seed,
        )
    except NotInstalled as error:
        return {"left_out": str(error), "attacks": [], "version": None, "queries": 0}
    attacks["auto"] = found.robust
    names = list(found.attacks)
    return {"left_out": None, "attacks": names, "version": found.version, "queries": queries}
