"""Robustness to malice: the smallest changes that make a model wrong, and whether it hides them."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tutelage.core.errors import RecipeError, suggest
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.part import AbstractPart, Finding, Status
from tutelage.evaluation.robustness.plots import attack_curve
from tutelage.evaluation.robustness.siege import (
    Plan,
    Targets,
    besiege,
    carried_over,
    difference,
    told,
    worst,
)
from tutelage.evaluation.robustness.warning import hidden, of_what, trusted, versus_teacher
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.whitebox import some
from tutelage.evaluation.wording import NAMES, percent

GREY, COLOUR = 0.1, 8 / 255
_AUTO = ("short", "standard", "none")
_ATTACKS = {
    "noise": "Random noise of that size",
    "fgsm": "One step (FGSM)",
    "pgd": "Many steps (PGD)",
    "margin": "Many steps on the margin",
    "auto": "AutoAttack",
}


@register("part", "attacks")
class Attacks(AbstractPart):
    """Accuracy under attack within ``|x' - x| <= epsilon``, and signs of gradient masking.

    Args:
        epsilon: Largest change of a pixel, of the range 1. None takes the usual sizes: 0.1 for
            grey images, 8/255 for colour.
        examples: Most test images used (drawn by id).
        steps: Gradients of each start of PGD.
        restarts: Starts of PGD.
        auto: AutoAttack: ``short`` (apgd-ce, apgd-t, square with 300 queries), ``standard``
            (with fab-t, 5,000 queries: the published form), or ``none``.
        tolerated: How much less robust than its teacher the student may be, as a share of the
            examples, before this is a warning.
    """

    title = "Attacks"
    long = True
    gates: ClassVar[Mapping[str, Gate]] = {
        "robust_accuracy": Gate(
            "the student's accuracy under the worst of all attacks",
            False,
            in_part("attacks", "models", "student", "worst"),
            "%",
        ),
    }

    def __init__(
        self,
        epsilon: float | None = None,
        examples: int = 100,
        steps: int = 20,
        restarts: int = 2,
        auto: str = "short",
        tolerated: float = 0.05,
    ):
        if epsilon is not None and not 0 < epsilon <= 1:
            raise RecipeError(f"epsilon is {epsilon}: give a share of the range, in (0, 1].")
        if auto not in _AUTO:
            raise RecipeError(f"auto is {auto!r}. {suggest(str(auto), _AUTO)}")
        if min(examples, steps, restarts) < 1 or not 0 <= tolerated <= 1:
            raise RecipeError(
                f"examples is {examples}, steps {steps}, restarts {restarts} and tolerated "
                f"{tolerated}: give at least 1 of each, and a share in [0, 1]."
            )
        self.epsilon, self.most, self.tolerated = epsilon, examples, tolerated
        self.steps, self.restarts, self.auto = steps, restarts, auto

    def absent(self, subjects: Subjects) -> str | None:
        """There must be images, and a student that can be differentiated."""
        if not subjects.images:
            return "the examples are no images"
        if subjects.observed("student") is None:
            return "the student only answers: gradients of it cannot be had"
        return None

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Robust accuracy by model and attack, signs of masking, and the student beside others."""
        seed = derive(subjects.seed, "attacks")
        batch = subjects.test.batch(some(subjects.test, self.most, seed))
        assert isinstance(batch.inputs, Tensor), "images were asked for"
        assert batch.targets is not None, "`some` takes labelled rows alone"
        assert batch.ids is not None, "every set gives ids"
        targets = Targets(batch.inputs, batch.targets, batch.ids)
        epsilon = self.epsilon or (GREY if batch.inputs.shape[1] == 1 else COLOUR)
        plan = Plan(epsilon, self.steps, self.restarts, self.auto, seed)
        seen = ((role, subjects.observed(role)) for role in subjects.roles)
        models = {role: model for role, model in seen if model is not None}
        stood = {role: besiege(model, targets, plan) for role, model in models.items()}
        carried = carried_over(models, stood, targets)
        last = {role: worst(stood[role], carried[role]) for role in models}
        level = subjects.level
        return {
            "examples": len(batch.ids),
            "of": len(subjects.test),
            "epsilon": epsilon,
            "steps": self.steps,
            "restarts": self.restarts,
            "tolerated": self.tolerated,
            "models": {role: told(stood[role], carried[role], level) for role in models},
            "against": {
                role: difference(last["student"], last[role], level).as_dict()
                for role in ("teacher", "baseline")
                if role in models
            },
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Models that hide their gradients; then what attacks leave of the student."""
        found = []
        for role, model in figures["models"].items():
            if model["signs"]:
                status: Status = "warning" if role == "student" else "notice"
                found.append(Finding(status, hidden(NAMES[role], model, figures["examples"])))
        student = figures["models"]["student"]
        if not student["signs"]:
            found.append(Finding("fine", trusted(figures)))
        teacher = figures["models"].get("teacher")
        if teacher and not student["signs"] and not teacher["signs"]:
            found.append(versus_teacher(figures))
        found.append(Finding("notice", of_what(figures)))
        order = ("warning", "notice", "fine")
        return sorted(found, key=lambda one: order.index(one.status))

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """How it was done, the accuracy under every attack, and a curve over their size."""
        models = figures["models"]
        curves = {
            role: [(0.0, m["clean"]["mean"]), *((size, s["mean"]) for size, s in m["curve"])]
            for role, m in models.items()
        }
        return [
            Words(
                f"{figures['examples']:,} of {figures['of']:,} test images; each pixel may change "
                f"by {percent(figures['epsilon'])} of the range of brightness (L-infinity). Many "
                f"steps are {figures['steps']} from each of {figures['restarts']} random starts. "
                + _of_auto(models["student"]["auto"])
            ),
            _table(models),
            Picture(
                attack_curve(curves, figures["epsilon"]),
                "Share still right against the size of the attack (PGD of half as many steps); "
                "the dashed line is the size of the table",
            ),
            _signs(models),
        ]


def _of_auto(auto: Mapping[str, Any]) -> str:
    if auto["left_out"]:
        return f"AutoAttack was left out: {auto['left_out'].rstrip('.')}."
    return (
        f"AutoAttack is that of pyautoattack {auto['version']}: {', '.join(auto['attacks'])}"
        f" ({auto['queries']:,} queries of the square attack)."
    )


def _table(models: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = [("None", *(_share(m["clean"]) for m in models.values()))]
    for name, said in _ATTACKS.items():
        if any(name in m["attacks"] for m in models.values()):
            rows.append((said, *(_share(m["attacks"].get(name)) for m in models.values())))
    for other in models:
        if any(other in m["transfer"] for m in models.values()):
            rows.append(
                (
                    f"Images made for the {NAMES[other]}",
                    *(_share(m["transfer"].get(other)) for m in models.values()),
                )
            )
    rows.append(("The worst of all", *(_share(m["worst"]) for m in models.values())))
    rows.append(("Many steps, no bound", *(_share(m["unbounded"]) for m in models.values())))
    head = ("Attack", *(NAMES[role].capitalize() for role in models))
    return Table(head, tuple(rows), "Accuracy under attack, with its interval")


def _signs(models: Mapping[str, Any]) -> Table:
    kinds = {
        "weak": "a weak attack breaks more than PGD",
        "strong": "a strong attack breaks far more than PGD",
        "unbounded": "even an attack without bound fails",
        "flat": "gradients are exactly 0",
    }
    rows = []
    for kind, said in kinds.items():
        cells = []
        for model in models.values():
            found = [sign for sign in model["signs"] if sign["kind"] == kind]
            cells.append(f"yes, {max(sign['more'] for sign in found)}" if found else "no")
        rows.append((said[0].upper() + said[1:], *cells))
    head = ("Sign", *(NAMES[role].capitalize() for role in models))
    return Table(
        head,
        tuple(rows),
        "Signs of hidden gradients, with the number of examples that show it",
        folded=True,
    )


def _share(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "–"
    ends = f"{100 * interval['low']:.0f} to {100 * interval['high']:.0f}"
    return f"{percent(interval['mean'])} ({ends})"
